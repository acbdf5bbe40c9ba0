// tlsd where the kernel has TLS; elsewhere these are skipped. `make check-ktls` runs them in a machine that
// has.
#include <sys/socket.h>

#include <cerrno>
#include <thread>

#include "tests/e2e/tls_bench.hh"

using namespace kit;

namespace {
constexpr const char* suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                  "TLS_CHACHA20_POLY1305_SHA256"};
constexpr const char* ciphers_1_2[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
                                       "ECDHE-ECDSA-CHACHA20-POLY1305"};
constexpr std::size_t size = 1UL << 20;

void need_kernel_tls() {
  if (!kernel_has_tls()) cr_skip("this kernel has no TLS");
}

std::string pattern(std::uint32_t seed) {
  std::string bytes(size, '\0');
  for (auto& byte : bytes) byte = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return bytes;
}

/// Connections whose sending the kernel has taken over so far.
long taken_over() {
  const auto text = read_file("/proc/net/tls_stat");
  const auto at = text.find("TlsTxSw");
  return at == text.npos ? -1 : std::strtol(text.c_str() + at + 7, nullptr, 10);
}

/// Both ways at once, and then an end in order both ways.
void must_carry(int plain, TlsEnd& far) {
  std::string there, back;
  bool clean = false;
  std::thread writer{[&] {
    send_all(plain, pattern(1));
    ::shutdown(plain, SHUT_WR);
  }};
  std::thread peer{[&] {
    there = far.receive_exactly(size);
    far.send(pattern(2));
    there += far.receive_all(&clean);
    far.close_notify();
  }};
  back = receive_all(plain);
  writer.join();
  peer.join();
  cr_assert(there == pattern(1));
  cr_assert(back == pattern(2));
  cr_assert(clean);
}
}  // namespace

Test(tlsd_ktls, dials_are_carried_by_the_kernel_with_each_cipher) {
  need_kernel_tls();
  TempDir dir;
  Authority ca{dir};
  const auto context = server_context(ca.issue("server"));
  ScriptedRouter router{"tlsd"};
  for (const auto* suite : suites) {
    SSL_CTX_set_ciphersuites(context.get(), suite);
    const auto listener = listen_tcp();
    Wire::Datagram answer;
    ipc::Fd plain;
    router.send_dial(1, tls(port_of(listener.borrow())),
                     R"("judge":false,)" + profile({{"ca", ca.certificate()}}));
    const auto socket = accept_from(listener);
    TlsEnd far{context.get(), socket.borrow(), true};
    cr_assert(far.shake_hands());
    answer = router.answer();
    cr_assert(answer.result()["path"].string_or("") == "ktls-relay", "%s", answer.text.c_str());
    cr_assert(answer.result()["labels"].labels().at("tls.cipher") == suite);
    plain = answer.take_fd();
    must_carry(plain.borrow(), far);
  }
}

Test(tlsd_ktls, listeners_are_carried_by_the_kernel_with_each_cipher) {
  need_kernel_tls();
  TempDir dir;
  Authority ca{dir};
  const auto issued = ca.issue("server");
  ScriptedRouter router{"tlsd"};
  const auto port = router.listen_port(
      "tls://127.0.0.1:0",
      R"("service":"pong",)" + profile({{"certificate", issued.certificate}, {"private_key", issued.key}}));
  for (const auto* suite : suites) {
    const auto before = taken_over();
    const auto context = client_context(ca.certificate());
    SSL_CTX_set_ciphersuites(context.get(), suite);
    const auto socket = connect_tcp(port);
    TlsEnd far{context.get(), socket.borrow(), false};
    std::thread client{[&] { far.shake_hands(); }};
    auto question = router.answer();
    client.join();
    router.answer(question, R"({"token":1,"mode":"deliver"})");
    const auto plain = router.answer().take_fd();
    cr_assert_gt(taken_over(), before);
    must_carry(plain.borrow(), far);
  }
}

Test(tlsd_ktls, tls_1_2_is_carried_too_and_goes_on_when_it_resumes) {
  need_kernel_tls();
  std::string there;
  bool clean = false;
  DialBench bench{{}, [&](TlsEnd& end) {
                    there = end.receive_exactly(size);
                    end.send(pattern(2));
                    there += end.receive_all(&clean);
                    end.close_notify();
                  }};
  SSL_CTX_set_max_proto_version(bench.context.get(), TLS1_2_VERSION);
  for (const auto* cipher : ciphers_1_2) {
    SSL_CTX_set_cipher_list(bench.context.get(), cipher);
    for (int round = 0; round < 2; ++round) {
      auto answer = bench.dial({{"ciphers", cipher}});
      cr_assert(answer.result()["path"].string_or("") == "ktls-relay", "%s", answer.text.c_str());
      cr_assert(answer.result()["labels"].labels().at("tls.version") == "TLSv1.2");
      const auto plain = answer.take_fd();
      send_all(plain.borrow(), pattern(1));
      ::shutdown(plain.borrow(), SHUT_WR);
      cr_assert(receive_all(plain.borrow()) == pattern(2));
      cr_assert(there == pattern(1) && clean);
    }
  }
}

Test(tlsd_ktls, listeners_carry_tls_1_2_and_its_hop) {
  need_kernel_tls();
  TempDir dir;
  Authority ca{dir};
  const auto issued = ca.issue("server");
  ScriptedRouter router{"tlsd"};
  const auto port = router.listen_port(
      "tls://127.0.0.1:0", profile({{"certificate", issued.certificate}, {"private_key", issued.key}}));
  const auto context = client_context(ca.certificate());
  SSL_CTX_set_max_proto_version(context.get(), TLS1_2_VERSION);
  const auto socket = connect_tcp(port);
  TlsEnd far{context.get(), socket.borrow(), false};
  std::thread client{[&] {
    far.shake_hands();
    far.send(hop_frame("pong"));
    far.receive_exactly(ipc::hop_ok().size());
  }};
  const auto question = router.answer();
  router.answer(question, R"({"token":1,"mode":"deliver"})");
  auto delivery = router.answer();
  cr_assert(delivery.message->params["path"].string_or("") == "ktls-relay", "%s", delivery.text.c_str());
  client.join();
  must_carry(delivery.take_fd().borrow(), far);
}

Test(tlsd_ktls, the_hop_is_counted_and_what_follows_it_is_read) {
  need_kernel_tls();
  DialBench bench{{}, [](TlsEnd& end) {
                    end.receive_exactly(hop_frame("pong").size());
                    end.send(ipc::hop_ok());
                    end.receive_exactly(1);
                    end.send("after the hop");
                    end.close_notify();
                  }};
  auto answer = bench.router.dial(tls(bench.server.port(), "/pong"),
                                  R"("service":"pong","hops":1,)" + bench.settings());
  cr_assert(answer.result()["path"].string_or("") == "ktls-relay", "%s", answer.text.c_str());
  const auto plain = answer.take_fd();
  send_all(plain.borrow(), "x");
  cr_assert(receive_all(plain.borrow()) == "after the hop");
}

Test(tlsd_ktls, a_cut_is_a_reset_and_late_tickets_are_passed_over) {
  need_kernel_tls();
  DialBench bench{{}, [](TlsEnd& end) {
                    end.receive_exactly(1);
                    SSL_new_session_ticket(end.ssl.get());
                    end.send("half of it");
                    ::shutdown(SSL_get_fd(end.ssl.get()), SHUT_RDWR);
                  }};
  auto answer = bench.dial();
  cr_assert(answer.result()["path"].string_or("") == "ktls-relay");
  const auto plain = answer.take_fd();
  send_all(plain.borrow(), "x");
  cr_assert(receive_exactly(plain.borrow(), 10) == "half of it");
  char byte = 0;
  cr_assert(::recv(plain.borrow(), &byte, 1, 0) < 0 && errno == ECONNRESET);
}

Test(tlsd_ktls, a_key_update_ends_the_connection_with_a_word_and_never_as_an_end) {
  need_kernel_tls();
  DialBench bench{{}, [](TlsEnd& end) {
                    end.receive_exactly(1);
                    SSL_key_update(end.ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
                    end.send("under new keys");
                    end.receive_all();
                  }};
  const auto plain = bench.dial().take_fd();
  send_all(plain.borrow(), "x");
  char byte = 0;
  cr_assert(::recv(plain.borrow(), &byte, 1, 0) < 0 && errno == ECONNRESET);
  cr_assert(bench.router.expect("log").text.find("changed its keys") != std::string::npos);
}

Test(tlsd_ktls, off_is_off) {
  need_kernel_tls();
  DialBench bench;
  cr_assert(bench.dial({{"ktls", "off"}}).result()["path"].string_or("") == "relay");
}

Test(tlsd_ktls, a_server_that_asks_for_hellos_without_end_holds_nobody_up) {
  need_kernel_tls();
  TempDir dir;
  Authority ca{dir};
  ScriptedRouter router{"tlsd"};
  std::string record{"\x16\x03\x03\x40\x00", 5};
  record.resize(5 + 0x4000);
  TcpServer flood{[&](int socket) {
    while (::send(socket, record.data(), record.size(), MSG_NOSIGNAL) > 0) continue;
  }};
  const auto answer =
      router.dial(tls(flood.port()), R"("judge":false,)" + profile({{"ca", ca.certificate()}}));
  cr_assert_eq(answer.word(), "UNREACHABLE", "%s", answer.text.c_str());
}
