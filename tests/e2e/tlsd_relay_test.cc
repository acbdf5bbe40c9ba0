// What goes through a connection of tlsd, and what outlives it.
#include <criterion/criterion.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "tests/e2e/tls_bench.hh"

using namespace kit;

Test(tlsd_relay, half_closes_travel_both_ways_as_close_notify) {
  bool clean = false;
  std::string seen;
  DialBench bench{{}, [&](TlsEnd& end) {
                    seen = end.receive_all(&clean);
                    end.send("after your end");
                    end.close_notify();
                  }};
  const auto socket = bench.dial().take_fd();
  send_all(socket.borrow(), "question");
  ::shutdown(socket.borrow(), SHUT_WR);
  cr_assert(receive_all(socket.borrow()) == "after your end");
  cr_assert(seen == "question");
  cr_assert(clean);
}

Test(tlsd_relay, a_program_that_is_gone_takes_its_connection_along_although_the_peer_stays) {
  std::atomic<bool> released = false;
  DialBench bench{{}, [&](TlsEnd& end) {
                    end.receive_all();  // close_notify, which is not answered
                    cr_expect(eventually([&] { return released.load(); }));
                  }};
  const auto before = bench.router.fds();
  { const auto program = bench.dial().take_fd(); }
  const bool is_gone = eventually([&] { return bench.router.fds() <= before; });
  released = true;
  cr_assert(is_gone, "%zu descriptors, %zu before", bench.router.fds(), before);
}

Test(tlsd_relay, a_truncated_stream_is_a_reset_and_an_event_never_an_end) {
  DialBench bench{{}, [](TlsEnd& end) {
                    end.receive_exactly(1);
                    end.send("half of it");
                    ::shutdown(SSL_get_fd(end.ssl.get()), SHUT_RDWR);
                  }};
  const auto socket = bench.dial().take_fd();
  send_all(socket.borrow(), "x");
  cr_assert(receive_exactly(socket.borrow(), 10) == "half of it");
  char byte = 0;
  const auto got = ::recv(socket.borrow(), &byte, 1, 0);
  cr_assert(got < 0 && errno == ECONNRESET, "%zd", got);
  cr_assert(bench.router.expect("log").text.find("truncated") != std::string::npos);
}

namespace {
/// What the kernel keeps of what was sent there (unix(7), SIOCOUTQ), in bytes.
int unread(const ipc::Fd& socket) {
  int bytes = 0;
  cr_assert_eq(::ioctl(socket.borrow(), TIOCOUTQ, &bytes), 0);
  return bytes;
}
}  // namespace

Test(tlsd_relay, what_a_program_says_last_while_its_peer_talks_and_does_not_read_arrives) {
  constexpr std::size_t most = 64UL << 20;
  std::atomic<bool> released = false;
  std::atomic<std::size_t> arrived = 0;
  DialBench bench{{}, [&](TlsEnd& end) {
                    while (!released) {
                      end.send(".");
                      ::poll(nullptr, 0, 1);
                    }
                    arrived = end.receive_all().size();
                    end.close_notify();
                  }};
  const auto socket = bench.dial().take_fd();
  const std::string message(4000, 'x');  // short enough to be read whole
  const auto [here, there] = must(ipc::socket_pair(SOCK_STREAM));
  send_all(here.borrow(), message);
  // The last byte of a message stays unread, and with it all the memory of the message.
  const auto is_taken = [&] { return unread(socket) <= unread(here); };
  const auto await_fresh_answer = [&] {
    std::array<char, 1000> old;
    while (::recv(socket.borrow(), old.data(), old.size(), MSG_DONTWAIT) > 0) continue;
    receive_exactly(socket.borrow(), 1);
  };
  std::size_t sent = 0;
  do {
    await_fresh_answer();
    send_all(socket.borrow(), message);
  } while ((sent += message.size()) < most && eventually(is_taken, Milliseconds{300}));
  cr_assert_lt(sent, most, "everything was taken");
  send_all(socket.borrow(), "last words");
  ::shutdown(socket.borrow(), SHUT_WR);
  released = true;
  receive_all(socket.borrow());
  cr_assert_eq(arrived, sent + 10);
}

Test(tlsd_relay, an_idle_limit_is_a_reset_and_an_event_never_an_end) {
  DialBench bench;
  const auto socket = bench.dial({{"idle_timeout_ms", "100"}}).take_fd();
  must_echo(socket.borrow());
  char byte = 0;
  const auto got = ::recv(socket.borrow(), &byte, 1, 0);
  cr_assert(got < 0 && errno == ECONNRESET, "%zd", got);
  cr_assert(bench.router.expect("log").text.find("idle for too long") != std::string::npos);
}

Test(tlsd_relay, a_corrupted_record_is_told_of_as_such_even_right_behind_good_ones) {
  DialBench bench{{}, [](TlsEnd& end) {
                    end.receive_exactly(1);
                    SSL_set0_wbio(end.ssl.get(), BIO_new(BIO_s_mem()));
                    end.send("good");
                    const auto record = tlsd::text_of(SSL_get_wbio(end.ssl.get()));
                    send_all(SSL_get_fd(end.ssl.get()),
                             record + "\x17\x03\x03" + std::string(1, '\0') + " " + std::string(32, 'x'));
                    end.receive_all();
                  }};
  const auto socket = bench.dial({{"ktls", "off"}}).take_fd();
  send_all(socket.borrow(), "x");
  cr_assert(receive_exactly(socket.borrow(), 4) == "good");
  const auto log = bench.router.expect("log").text;
  cr_assert(log.find("bad record mac") != std::string::npos, "%s", log.c_str());
}

Test(tlsd_relay, large_transfers_both_ways_at_once_are_exact) {
  DialBench bench;
  constexpr std::size_t size = 64UL << 20;
  const auto socket = bench.dial().take_fd();
  std::thread writer{[&] {
    std::string block(100'000, '\0');
    std::uint32_t seed = 1;
    for (std::size_t sent = 0; sent < size;) {
      const auto count = std::min(block.size(), size - sent);
      for (std::size_t i = 0; i < count; ++i)
        block[i] = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
      send_all(socket.borrow(), {block.data(), count});
      sent += count;
    }
    ::shutdown(socket.borrow(), SHUT_WR);
  }};
  std::string buffer(1 << 18, '\0');
  std::uint32_t seed = 1;
  std::size_t total = 0, bad = 0;
  for (ssize_t got = 0; (got = ::recv(socket.borrow(), buffer.data(), buffer.size(), 0)) > 0;
       total += static_cast<std::size_t>(got))
    for (ssize_t i = 0; i < got; ++i)
      bad += buffer[static_cast<std::size_t>(i)] !=
             static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  writer.join();
  cr_assert_eq(total, size);
  cr_assert_eq(bad, 0);
}

Test(tlsd_relay, single_bytes_pass_one_by_one) {
  DialBench bench;
  const auto socket = bench.dial().take_fd();
  for (int i = 0; i < 500; ++i) must_echo(socket.borrow(), std::string(1, static_cast<char>('a' + i % 26)));
}

Test(tlsd_relay, bytes_that_a_program_sends_with_descriptors_arrive_alone) {
  DialBench bench;
  const auto socket = bench.dial().take_fd();
  const int fd = socket.borrow();
  const auto [extra, other] = must(ipc::socket_pair(SOCK_STREAM));
  const int attached = extra.borrow();
  std::string said;
  for (const std::size_t size : {1, 1, 10, 1, 5000, 1, 1}) {
    const std::string message(size, static_cast<char>('a' + said.size() % 26));
    cr_assert(must(ipc::send_with_fds(fd, message, {&attached, 1})) == ipc::Io::done);
    said += message;
  }
  cr_assert(receive_exactly(fd, said.size()) == said);
  must_echo(fd);
}

Test(tlsd_relay, urgent_bytes_are_bytes_like_others_and_end_nothing) {
  std::string said;
  bool clean = false;
  std::atomic<bool> is_through = false;
  DialBench bench{{}, [&](TlsEnd& end) {
                    said = end.receive_all(&clean);
                    is_through = true;
                  }};
  auto socket = bench.dial().take_fd();
  const int fd = socket.borrow();
  send_all(fd, "x");
  cr_assert_eq(::send(fd, "!", 1, MSG_OOB), 1);
  send_all(fd, "more");
  cr_assert_eq(::send(fd, "?", 1, MSG_OOB), 1);
  socket = ipc::Fd{};
  cr_assert(eventually([&] { return is_through.load(); }), "the end of the program is passed on");
  cr_assert(clean);
  cr_assert(said == "x!more?", "%s", said.c_str());
}

Test(tlsd_relay, urgent_last_words_of_a_program_that_left_an_answer_unread_arrive) {
  std::string said;
  bool clean = false;
  std::atomic<bool> is_through = false;
  DialBench bench{{}, [&](TlsEnd& end) {
                    end.send("hello");
                    said = end.receive_all(&clean);
                    is_through = true;
                  }};
  for (int i = 0; i < 20; ++i) {
    is_through = false;
    auto socket = bench.dial().take_fd();
    cr_assert(is_readable(socket.borrow()));
    cr_assert_eq(::send(socket.borrow(), "!", 1, MSG_OOB), 1);
    send_all(socket.borrow(), "last words");
    socket = ipc::Fd{};
    cr_assert(eventually([&] { return is_through.load(); }));
    cr_assert(said == "!last words" && clean, "%d: %s", i, said.c_str());
  }
}

Test(tlsd_relay, descriptors_that_a_program_sends_do_not_hold_up_others) {
  const auto listener = listen_tcp();
  DialBench bench;
  const auto socket = bench.dial().take_fd(), other = bench.dial().take_fd();
  const Deadline soon{Milliseconds{10'000}};
  for (int i = 0; i < 3; ++i) {
    const auto stubborn = lingering(listener);
    const int fd = stubborn.borrow();
    must(ipc::send_with_fds(socket.borrow(), "a", {&fd, 1}));
    cr_assert(receive_exactly(socket.borrow(), 1) == "a");
  }
  must_echo(socket.borrow());
  must_echo(other.borrow());
  cr_assert(!soon.passed());
}

Test(tlsd_relay, repeated_dials_resume_and_keep_their_labels) {
  std::atomic<int> resumed = 0;
  DialBench bench{{}, [&](TlsEnd& end) {
                    resumed += SSL_session_reused(end.ssl.get());
                    echo_tls(end);
                  }};
  for (const auto* version : {R"(["1.2"])", R"(["1.3"])"}) {
    resumed = 0;
    for (int i = 0; i < 4; ++i) {
      auto answer = bench.dial({{"versions", version}, {"ktls", "off"}});
      must_echo(answer.take_fd().borrow());
      cr_assert(answer.result()["labels"].labels().at("cert.name") == "localhost");
    }
    cr_assert_geq(resumed.load(), 3, "%s: %d", version, resumed.load());
  }
  resumed = 0;
  for (int i = 0; i < 3; ++i) must_echo(bench.dial({{"session_cache", "false"}}).take_fd().borrow());
  cr_assert_eq(resumed.load(), 0);
}

Test(tlsd_relay, alpn_is_offered_and_what_was_chosen_is_a_label) {
  DialBench bench;
  SSL_CTX_set_alpn_select_cb(
      bench.context.get(),
      [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned, void*) {
        *out = in + 1;
        *size = in[0];
        return SSL_TLSEXT_ERR_OK;
      },
      nullptr);
  auto answer = bench.dial({{"alpn", R"(["http/1.1","h2"])"}});
  cr_assert(answer.result()["labels"].labels().at("tls.alpn") == "http/1.1");
  cr_assert(bench.dial({{"alpn", R"(["plumb/1"])"}}).word() == "BAD_REQUEST");
}

Test(tlsd_relay, profiles_with_mistakes_are_named) {
  DialBench bench;
  must_fail(bench.dial({{"versions", R"(["1.1"])"}}), "BAD_REQUEST", "versions");
  must_fail(bench.dial({{"verify", "maybe"}}), "BAD_REQUEST", "verify");
  must_fail(bench.dial({{"pins", "rubbish"}}), "BAD_REQUEST", "pins");
  must_fail(bench.dial({{"alpn", "7"}}), "BAD_REQUEST", "alpn");
  must_fail(bench.dial({{"private_key", "/x"}}), "BAD_REQUEST", "private_key");
  must_fail(bench.dial({{"ciphers", "NONSENSE"}}), "BAD_REQUEST", "ciphers");
  must_fail(bench.dial({{"certificate", bench.dir / "none.pem"}}), "AUTH", "No such file");
  must_fail(bench.dial({{"certificate", bench.issued.key}, {"private_key", bench.issued.key}}), "AUTH",
            "certificate");
  must_fail(bench.dial({{"psk_file", bench.dir / "none"}}), "AUTH", "No such file");
  const auto no_ca = R"("judge":false,)" + profile({{"ca", bench.dir / "no-ca.pem"}});
  must_fail(bench.router.dial(tls(bench.server.port()), no_ca), "AUTH", "No such file");
}

Test(tlsd_relay, a_changed_file_is_loaded_again) {
  DialBench bench;
  Authority other{bench.dir, "other"};
  const auto trusted = bench.dir / "trusted.pem";
  write_file(trusted, read_file(other.certificate()));
  const auto settings = R"("judge":false,)" + profile({{"ca", trusted}});
  must_fail(bench.router.dial(tls(bench.server.port()), settings), "AUTH", "unknown issuer");
  write_file(trusted, read_file(other.certificate()) + read_file(bench.ca.certificate()));
  cr_assert(eventually([&] { return bench.router.dial(tls(bench.server.port()), settings).word().empty(); }));
}

Test(tlsd_relay, the_key_log_is_written_and_loudly_said) {
  DialBench bench;
  const auto path = bench.dir / "keys.log";
  must_echo(bench.dial({{"keylog", path}}).take_fd().borrow());
  cr_assert(bench.router.logs().find("SESSION KEYS") != std::string::npos);
  cr_assert(read_file(path).find("SERVER_TRAFFIC_SECRET_0") != std::string::npos);
}

Test(tlsd_relay, existing_programs_get_whole_messages_one_by_one) {
  const auto message = ipc::frame_07(2, 0, std::string(100, 'm'));
  DialBench bench{{}, [&](TlsEnd& end) {
                    end.receive_exactly(1);
                    end.send(message + message + message.substr(0, 10));
                    end.send(message.substr(10));
                    end.receive_all();
                  }};
  auto answer = bench.router.dial(tls(bench.server.port()), R"("framing":"ipc07",)" + bench.settings());
  const auto socket = answer.take_fd();
  send_all(socket.borrow(), ipc::frame_07(2, 0, "go"));
  for (int i = 0; i < 3; ++i) {
    cr_assert(is_readable(socket.borrow()));
    std::string buffer(4096, '\0');
    const auto got = ::recv(socket.borrow(), buffer.data(), buffer.size(), 0);
    cr_assert_eq(got, static_cast<ssize_t>(message.size()));
  }
}
