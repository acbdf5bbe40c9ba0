#include "ipc/relay.hh"

#include <criterion/criterion.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/e2e/kit.hh"

using namespace ipc;
using namespace std::chrono_literals;

namespace {
/// A connected pair of blocking sockets: `ours` goes to the relay, `theirs` to the test.
struct Ends {
  Fd ours;
  Fd theirs;
};

Ends unix_ends() {
  auto [ours, theirs] = kit::must(socket_pair(SOCK_STREAM));
  kit::must(set_blocking(theirs.borrow(), true));
  return {std::move(ours), std::move(theirs)};
}

Ends tcp_ends() {
  const auto listener = kit::listen_tcp();
  auto theirs = kit::connect_tcp(kit::port_of(listener.borrow()));
  return {kit::accept_from(listener), std::move(theirs)};
}

/// A relay that runs in this thread while the peers do their work in theirs.
class Bench {
 public:
  Bench(Ends a, Ends b, RelayOptions options = {}) : a_{std::move(a.theirs)}, b_{std::move(b.theirs)} {
    std::signal(SIGPIPE, SIG_IGN);
    relay_ =
        std::make_unique<Relay>(loop_, socket_stream(std::move(a.ours)), socket_stream(std::move(b.ours)),
                                options, [this](const RelayOutcome& outcome) {
                                  outcome_ = outcome;
                                  relay_.reset();
                                  loop_.stop();
                                });
  }
  RelayOutcome run(const std::function<void(int)>& at_a, const std::function<void(int)>& at_b) {
    std::thread first{[&] { at_a(a_.borrow()); }};
    std::thread second{[&] { at_b(b_.borrow()); }};
    Timer limit{loop_, 30s, [] { kit::give_up("the relay does not end"); }};
    loop_.run();
    limit.stop();
    first.join();
    second.join();
    cr_assert(outcome_.has_value());
    return *outcome_;
  }
  void close_a() { a_ = Fd{}; }
  void close_b() { b_ = Fd{}; }

 private:
  Loop loop_;
  Fd a_;
  Fd b_;
  std::unique_ptr<Relay> relay_;
  std::optional<RelayOutcome> outcome_;
};

std::string noise(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  std::uint64_t state = seed * 2654435761U + 1;
  for (auto& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

void finish(int socket) { ::shutdown(socket, SHUT_WR); }

void both_ways(Ends a, Ends b, std::size_t size) {
  Bench bench{std::move(a), std::move(b)};
  const auto up = noise(size, 1), down = noise(size, 2);
  const auto talk = [](const std::string& mine, const std::string& other) {
    return [&](int socket) {
      std::thread sender{[&, socket] {
        kit::send_all(socket, mine);
        finish(socket);
      }};
      cr_assert(kit::receive_all(socket) == other);
      sender.join();
    };
  };
  const auto outcome = bench.run(talk(up, down), talk(down, up));
  cr_assert(outcome.end == RelayOutcome::End::finished);
  cr_assert_eq(outcome.a_to_b, size);
  cr_assert_eq(outcome.b_to_a, size);
}

/// What one recv(2) of a 0.7 program finds.
std::string receive_once(int socket) {
  std::string buffer(2'000'000, '\0');
  const auto count = ::recv(socket, buffer.data(), buffer.size(), 0);
  buffer.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return buffer;
}
}  // namespace

Test(relay, sixty_four_mebibytes_arrive_to_the_byte_both_ways_between_tcp_and_unix) {
  both_ways(tcp_ends(), unix_ends(), 64 << 20);
}
Test(relay, bytes_arrive_both_ways_between_unix_sockets) { both_ways(unix_ends(), unix_ends(), 8 << 20); }
Test(relay, bytes_arrive_both_ways_between_tcp_sockets) { both_ways(tcp_ends(), tcp_ends(), 8 << 20); }

Test(relay, the_end_of_one_direction_leaves_the_other_open) {
  Bench bench{tcp_ends(), unix_ends()};
  const auto ask = [](int socket) {
    kit::send_all(socket, "question");
    finish(socket);
    cr_assert(kit::receive_all(socket) == "answer");
  };
  const auto reply = [](int socket) {
    cr_assert(kit::receive_all(socket) == "question");
    kit::send_all(socket, "answer");
    finish(socket);
  };
  cr_assert(bench.run(ask, reply).end == RelayOutcome::End::finished);
}

Test(relay, a_reset_is_passed_on_as_a_reset) {
  Bench bench{tcp_ends(), tcp_ends()};
  const auto cut = [&](int socket) {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    bench.close_a();
  };
  const auto wait = [](int socket) {
    char byte;
    cr_assert_eq(::recv(socket, &byte, 1, 0), -1);
    cr_assert_eq(errno, ECONNRESET);
  };
  cr_assert(bench.run(cut, wait).end == RelayOutcome::End::reset);
}

Test(relay, a_receiver_that_does_not_read_stops_the_sender_and_costs_no_cpu) {
  Bench bench{tcp_ends(), unix_ends()};
  rusage before{}, after{};
  const auto push = [](int socket) {
    const auto bytes = noise(1 << 20, 3);
    for (int i = 0; i < 64; ++i) kit::send_all(socket, bytes);
    finish(socket);
  };
  const auto sleep_then_read = [&](int socket) {
    kit::eventually([&] {  // until the sender is stuck: nothing new in a while
      int before_pause = 0, after_pause = 0;
      ::ioctl(socket, SIOCINQ, &before_pause);
      std::this_thread::sleep_for(100ms);
      ::ioctl(socket, SIOCINQ, &after_pause);
      return before_pause > 0 && before_pause == after_pause;
    });
    ::getrusage(RUSAGE_SELF, &before);
    std::this_thread::sleep_for(200ms);
    ::getrusage(RUSAGE_SELF, &after);
    cr_assert_eq(kit::receive_all(socket).size(), 64U << 20);
    finish(socket);
  };
  bench.run(push, sleep_then_read);
  const auto spent = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1'000'000 + after.ru_utime.tv_usec -
                     before.ru_utime.tv_usec + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1'000'000 +
                     after.ru_stime.tv_usec - before.ru_stime.tv_usec;
  cr_assert_lt(spent, 50'000, "%ld us of CPU while nothing could move", static_cast<long>(spent));
}

Test(relay, a_reader_that_goes_away_ends_its_direction_only_then_the_relay) {
  Bench bench{tcp_ends(), unix_ends()};
  const auto push = [](int socket) {
    const auto bytes = noise(1 << 16, 3);
    while (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) continue;
  };
  const auto leave = [&](int) { bench.close_b(); };
  const auto outcome = bench.run(push, leave);
  cr_assert(outcome.end == RelayOutcome::End::finished);
  cr_assert_eq(outcome.b_to_a, 0U);
}

Test(relay, an_urgent_byte_in_a_stream_that_is_spliced_neither_stops_nor_ends_it) {
  Bench bench{tcp_ends(), unix_ends()};
  std::atomic<bool> is_bulk = false;
  const auto bytes = noise(1 << 20, 3);
  const auto push = [&](int socket) {
    kit::send_all(socket, bytes);
    kit::eventually([&] { return is_bulk.load(); });
    cr_assert_eq(::send(socket, "!", 1, MSG_OOB), 1);
    kit::send_all(socket, bytes);
    finish(socket);
  };
  const auto pull = [&](int socket) {
    cr_assert(kit::receive_exactly(socket, bytes.size()) == bytes);
    is_bulk = true;
    cr_assert(kit::receive_all(socket) == bytes);  // TCP keeps the urgent byte apart
    finish(socket);
  };
  cr_assert(bench.run(push, pull).end == RelayOutcome::End::finished);
}

Test(relay, a_reset_is_one_whichever_direction_hears_of_it) {
  for (int i = 0; i < 50; ++i) {
    Bench bench{tcp_ends(), tcp_ends()};
    const auto bytes = noise(1 << 14, 3);
    const auto break_off = [&](int socket) {
      kit::receive_exactly(socket, bytes.size());
      const linger at_once{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
      bench.close_a();
    };
    const auto push = [&](int socket) {
      while (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) continue;
    };
    cr_assert(bench.run(break_off, push).end == RelayOutcome::End::reset, "round %d", i);
  }
}

Test(relay, an_idle_relay_ends_at_its_limit) {
  Bench bench{tcp_ends(), unix_ends(), {.idle = 50ms}};
  const auto wait = [](int socket) { cr_assert(kit::receive_all(socket).empty()); };
  cr_assert(bench.run(wait, wait).end == RelayOutcome::End::idle);
}

Test(relay, nothing_stays_open_after_it) {
  both_ways(tcp_ends(), unix_ends(), 1 << 20);  // pools keep a few pipes
  const auto before = kit::open_fds();
  for (int i = 0; i < 8; ++i) both_ways(tcp_ends(), unix_ends(), 1 << 20);
  cr_assert_eq(kit::open_fds(), before);
}

Test(relay_messages, every_message_of_a_burst_is_read_alone) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  std::vector<std::string> sent;
  for (unsigned i = 0; i < 500; ++i) sent.push_back(frame_07(2, 42, noise(i * 73 % 36'000, i)));
  sent.push_back(frame_07(2, 42, ""));
  const auto burst = [&](int socket) {
    std::string all;
    for (const auto& message : sent) all += message;
    kit::send_all(socket, all);
    finish(socket);
    kit::receive_all(socket);
  };
  const auto read = [&](int socket) {
    for (const auto& message : sent) cr_assert(receive_once(socket) == message);
    cr_assert(receive_once(socket).empty());
  };
  bench.run(burst, read);
}

Test(relay_messages, a_message_of_a_byte_at_a_time_is_read_whole) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const auto message = frame_07(2, 42, "hello");
  const auto dribble = [&](int socket) {
    for (const char byte : message + message) kit::send_all(socket, {&byte, 1});
    finish(socket);
    kit::receive_all(socket);
  };
  const auto read = [&](int socket) {
    cr_assert(receive_once(socket) == message);
    cr_assert(receive_once(socket) == message);
    cr_assert(receive_once(socket).empty());
  };
  bench.run(dribble, read);
}

Test(relay_messages, large_messages_go_into_an_empty_queue) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const std::vector<std::string> sent{frame_07(2, 1, "small"), frame_07(2, 1, noise(100'000, 1)),
                                      frame_07(2, 1, "small again"), frame_07(2, 1, noise(150'000, 2))};
  const auto burst = [&](int socket) {
    for (const auto& message : sent) kit::send_all(socket, message);
    finish(socket);
    kit::receive_all(socket);
  };
  const auto read = [&](int socket) {
    for (const auto& message : sent) {  // whole: read when all of it lies there
      cr_assert(kit::eventually([&] {
        int there = 0;
        return ::ioctl(socket, SIOCINQ, &there) == 0 && there == static_cast<int>(message.size());
      }));
      cr_assert(receive_once(socket) == message);
    }
  };
  bench.run(burst, read);
}

Test(relay_messages, a_cut_message_is_dropped_and_the_end_passed_on) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const auto whole = frame_07(2, 42, "whole");
  const auto cut = [&](int socket) {
    kit::send_all(socket, whole + frame_07(2, 42, "cut").substr(0, 8));
    finish(socket);
    kit::receive_all(socket);
  };
  const auto read = [&](int socket) {
    cr_assert(receive_once(socket) == whole);
    cr_assert(receive_once(socket).empty());
  };
  bench.run(cut, read);
}

Test(relay_messages, an_answer_is_through_before_the_end_is_passed_on) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const auto message = frame_07(2, 42, "question");
  const auto ask = [&](int socket) {
    kit::send_all(socket, message);
    finish(socket);
    cr_assert(kit::receive_all(socket) == message);
  };
  const auto echo = [&](int socket) {
    const auto got = receive_once(socket);
    // Were the end passed on at once, it would lie here already.
    cr_assert_not(kit::is_readable(socket, 20ms));
    kit::send_all(socket, got);
    cr_assert(receive_once(socket).empty());
  };
  bench.run(ask, echo);
}

Test(relay_messages, garbage_ends_it) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const auto lie = [](int socket) {
    kit::send_all(socket, std::string("\x02\xff\xff\xff\xff\x00", 6) + "junk");
    char byte;
    while (::recv(socket, &byte, 1, 0) > 0) continue;
  };
  const auto read = [](int socket) {
    cr_assert(receive_once(socket).empty());
    finish(socket);
  };
  cr_assert(bench.run(lie, read).end == RelayOutcome::End::reset);
}

Test(relay_messages, a_service_that_sends_while_the_client_leaves_is_drained) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc07}};
  const auto leave = [&](int) { bench.close_a(); };
  const auto keep_sending = [&](int socket) {
    const auto message = frame_07(2, 42, noise(1000, 1));
    for (int i = 0; i < 200; ++i) kit::send_all(socket, message);
    cr_assert(receive_once(socket).empty());  // an end, not a reset
    char byte;
    cr_assert_eq(::recv(socket, &byte, 1, MSG_DONTWAIT), 0);
    finish(socket);
  };
  bench.run(leave, keep_sending);
}

Test(relay_messages, empty_messages_of_v1_are_left_out) {
  Bench bench{tcp_ends(), unix_ends(), {.framing = Framing::ipc1}};
  const auto send = [](int socket) {
    kit::send_all(socket, frame_1("") + frame_1("one") + frame_1("") + frame_1("two"));
    finish(socket);
    kit::receive_all(socket);
  };
  const auto read = [](int socket) {
    cr_assert(receive_once(socket) == frame_1("one"));
    cr_assert(receive_once(socket) == frame_1("two"));
    cr_assert(receive_once(socket).empty());
  };
  bench.run(send, read);
}

Test(relay, ends_when_a_side_is_gone_altogether_although_the_other_says_nothing) {
  Bench bench{tcp_ends(), unix_ends()};
  const auto outcome = bench.run([](int peer) { cr_assert_eq(kit::receive_all(peer), "bye"); },
                                 [](int service) {
                                   kit::send_all(service, "bye");
                                   ::shutdown(service, SHUT_RDWR);
                                 });
  cr_assert(outcome.end == RelayOutcome::End::finished);
  cr_assert_eq(outcome.b_to_a, 3);
}
