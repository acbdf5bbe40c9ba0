// What udpd's listeners make of bad hop datagrams.
#include <criterion/criterion.h>

#include "tests/e2e/udp_kit.hh"

using namespace kit;
using udpd::Kind;

namespace {
constexpr Milliseconds soon{300};

bool is_asked(ScriptedRouter& router, Milliseconds within = soon) {
  return is_readable(router.wire().borrow(), within);
}
}  // namespace

Test(udpd_hostile, forged_and_foreign_cookies_bring_a_cookie_and_no_state) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto victim = udp_to(port), thief = udp_to(port);
  send_datagram(victim.borrow(), hello("pong", 1));
  const auto cookie = receive_hop(victim.borrow()).word.cookie;
  for (const auto& bytes : {hello("pong", 1, {1, 2, 3}), hello("pong", 1, cookie), hello("ping", 1, cookie),
                            hello("pong", 2, cookie)}) {
    send_datagram(thief.borrow(), bytes);
    cr_assert(receive_hop(thief.borrow()).word.kind == Kind::cookie);
  }
  send_datagram(victim.borrow(), hello("ping", 1, cookie));  // of another service
  cr_assert(receive_hop(victim.borrow()).word.kind == Kind::cookie);
  cr_assert_not(is_asked(router));
}

Test(udpd_hostile, a_replayed_hello_starts_nothing_and_gets_the_same_answer) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  const auto cookie = greet(peer.borrow(), "pong", 1);
  for (int i = 0; i < 3; ++i) send_datagram(peer.borrow(), hello("pong", 1, cookie));
  router.wire().refuse(router.expect("accepted"), {.word = ipc::Word::denied, .text = "no"});
  const auto refusal = receive_hop(peer.borrow());
  send_datagram(peer.borrow(), hello("pong", 1, cookie));
  cr_assert(receive_hop(peer.borrow()).bytes == refusal.bytes);
  cr_assert_not(is_asked(router));
  // One that began, and whose socket was closed again: silence.
  const auto second = greet(peer.borrow(), "pong", 2);
  admit(router);
  cr_assert(receive_hop(peer.borrow()).word.kind == Kind::answer);
  send_datagram(peer.borrow(), hop_word(Kind::done, 2, second));
  delivered(router);
  send_datagram(peer.borrow(), hello("pong", 2, second));
  cr_assert_not(receive_datagram(peer.borrow(), soon));
  cr_assert_not(is_asked(router));
}

Test(udpd_hostile, no_datagram_is_answered_with_more_bytes_than_it_has) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  const auto whole = hello("pong", 1);
  std::size_t sent = 0, received = 0, answers = 0;
  const auto send = [&](const std::string& bytes) {
    send_datagram(peer.borrow(), bytes);
    sent += bytes.size();
  };
  for (const std::size_t size : {0, 1, 8, 35, 36, 100, 511}) send(whole.substr(0, size));
  auto bad = whole;
  bad[udpd::header_size] = 9;  // no lookup frame
  send(bad);
  send(whole);
  send(whole + std::string(udpd::longest_datagram, 'x'));
  for (const auto kind : {Kind::cookie, Kind::answer, Kind::done, Kind::gone}) send(hop_word(kind, 1));
  while (const auto got = receive_datagram(peer.borrow(), soon)) {
    cr_assert_leq(got->size(), udpd::shortest_hello);
    received += got->size();
    ++answers;
  }
  cr_assert_eq(answers, 2);
  cr_assert_lt(received, sent);
  // A refusal of any length stays within its request.
  const auto cookie = greet(peer.borrow(), "pong", 3);
  static_cast<void>(cookie);
  router.wire().refuse(router.expect("accepted"),
                       {.word = ipc::Word::unknown_service, .text = std::string(3000, '\x02')});
  cr_assert_leq(receive_hop(peer.borrow()).bytes.size(), udpd::shortest_hello);
}

Test(udpd_hostile, done_and_gone_of_others_change_nothing) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port), other = udp_to(port);
  const auto cookie = greet(peer.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(peer.borrow()).word.kind == Kind::answer);
  send_datagram(other.borrow(), hop_word(Kind::done, 1, cookie));
  send_datagram(peer.borrow(), hop_word(Kind::gone, 9, cookie));
  send_datagram(other.borrow(), "data from nobody");
  cr_assert_not(is_asked(router, Milliseconds{100}));
  send_datagram(peer.borrow(), hop_word(Kind::done, 1, cookie));
  const auto flow = delivered(router);
  cr_assert(flow.first.empty() && is_empty(flow.socket.borrow()));
}

Test(udpd_hostile, gone_ends_a_flow_that_has_not_begun) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  const auto cookie = greet(peer.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(peer.borrow()).word.kind == Kind::answer);
  send_datagram(peer.borrow(), hop_word(Kind::gone, 1, cookie));
  cr_assert_not(is_asked(router, Milliseconds{1300}));  // longer than a lost `done` is waited for
}

Test(udpd_hostile, a_lost_done_delays_the_flow_and_no_more) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  greet(peer.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(peer.borrow()).word.kind == Kind::answer);
  const auto flow = delivered(router);
  send_datagram(flow.socket.borrow(), "the service speaks first");
  cr_assert(receive_datagram(peer.borrow()) == "the service speaks first");
}

Test(udpd_hostile, a_flood_of_hellos_does_not_keep_others_out) {
  ScriptedRouter router{"udpd"}, near{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  std::atomic<bool> over = false;
  std::atomic<int> ports = 0;
  std::thread flood{[&] {
    const auto bytes = hello("pong", 1);
    while (!over) {
      const auto socket = udp_to(port, "127.0.0.1", "127.0.9.9");
      for (int i = 0; i < 4; ++i) ::send(socket.borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      ++ports;
      // A flood faster than udpd takes datagrams in loses honest ones in the queue, whoever sends them.
      std::this_thread::sleep_for(std::chrono::microseconds{200});
    }
  }};
  while (ports < 1000) std::this_thread::yield();
  for (int i = 0; i < 5; ++i) {
    near.send_dial(7, "udp://127.0.0.1:" + std::to_string(port) + "/pong",
                   R"("service":"pong","hops":1,"judge":false,"settings":{"hop_timeout_ms":4000})");
    admit(router);
    auto answer = near.wire().receive();
    cr_assert(answer.word().empty(), "%s", answer.text.c_str());
    delivered(router);
  }
  over = true;
  flood.join();
}

Test(udpd_hostile, a_service_that_never_reads_costs_nobody_else_anything) {
  ScriptedRouter router{"udpd"};
  const auto port =
      router.listen_port("udp://127.0.0.1:0", R"("service":"dns","settings":{"direct_flows":0})");
  const auto deaf = udp_to(port), other = udp_to(port);
  send_datagram(deaf.borrow(), "x");
  admit(router);
  const auto unread = delivered(router);
  for (int i = 0; i < 5000; ++i) send_datagram(deaf.borrow(), std::string(1000, 'x'));
  send_datagram(other.borrow(), "y");
  admit(router);
  const auto flow = delivered(router);
  cr_assert(receive_datagram(flow.socket.borrow()) == "y");
}
