// udpd's listeners: raw and hop, by hand-written peers.
#include <criterion/criterion.h>
#include <signal.h>

#include "tests/e2e/udp_kit.hh"

using namespace kit;
using udpd::Kind;

namespace {
constexpr const char* raw = R"("service":"dns")";
constexpr Milliseconds soon{300};

std::string numbered(int number) { return "datagram " + std::to_string(number); }
}  // namespace

Test(udpd_listen, raw_datagrams_that_came_before_the_socket_come_first_and_in_order) {
  for (const char* address : {"127.0.0.1", "::1"}) {
    ScriptedRouter router{"udpd"};
    const std::string host = std::string_view{address} == "::1" ? "[::1]" : address;
    const auto port = router.listen_port("udp://" + host + ":0", raw);
    const auto peer = udp_to(port, address);
    for (int i = 0; i < 3; ++i) send_datagram(peer.borrow(), numbered(i));
    send_datagram(peer.borrow(), "");
    const auto question = router.expect("accepted");
    const auto labels = question.message->params["labels"].labels();
    cr_assert(question.message->params["service"].string_or("") == "dns");
    cr_assert(labels.at("peer.address") == address && labels.at("local.address") == address);
    cr_assert_eq(labels.at("peer.port"), std::to_string(port_of(peer.borrow())));
    router.answer(question, R"({"token":"1","mode":"deliver"})");
    const auto flow = delivered(router);
    std::vector<std::string> got = flow.first;
    while (got.size() < 4) got.push_back(receive_datagram(flow.socket.borrow()).value_or("lost"));
    const std::vector<std::string> wanted{numbered(0), numbered(1), numbered(2), ""};
    cr_assert(got == wanted);
    send_datagram(peer.borrow(), "later");
    cr_assert(receive_datagram(flow.socket.borrow()) == "later");
    send_datagram(flow.socket.borrow(), "answer");
    cr_assert(receive_datagram(peer.borrow()) == "answer");
    // Without its filter it could be disconnected and take the datagrams of new peers.
    const int nothing = 0;
    cr_assert_eq(::setsockopt(flow.socket.borrow(), SOL_SOCKET, SO_DETACH_FILTER, &nothing, sizeof nothing),
                 -1);
  }
}

Test(udpd_listen, what_follows_done_at_its_heels_is_not_lost) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  const auto cookie = greet(peer.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(peer.borrow()).word.frame == ipc::hop_ok());
  router.helper().signal(SIGSTOP);  // so that udpd reads all of them at once
  send_datagram(peer.borrow(), hop_word(Kind::done, 1, cookie));
  for (int i = 0; i < 3; ++i) send_datagram(peer.borrow(), numbered(i));
  router.helper().signal(SIGCONT);
  const auto flow = delivered(router);
  std::vector<std::string> got = flow.first;
  while (got.size() < 3) got.push_back(receive_datagram(flow.socket.borrow()).value_or("lost"));
  const std::vector<std::string> wanted{numbered(0), numbered(1), numbered(2)};
  cr_assert(got == wanted);
}

Test(udpd_listen, a_listener_on_any_address_answers_from_the_one_it_was_asked_at) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://0.0.0.0:0", raw);
  const auto peer = udp_to(port, "127.0.0.5");
  send_datagram(peer.borrow(), "x");
  admit(router);
  const auto flow = delivered(router);
  send_datagram(flow.socket.borrow(), "from 127.0.0.5");
  cr_assert(receive_datagram(peer.borrow()) == "from 127.0.0.5");
}

Test(udpd_listen, a_first_datagram_that_fits_no_message_is_relayed_whole) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0", raw);
  const auto peer = udp_to(port);
  const std::string large(65'000, 'x');
  send_datagram(peer.borrow(), large);
  admit(router);
  const auto flow = delivered(router);
  cr_assert(flow.path == "relay");
  cr_assert(receive_datagram(flow.socket.borrow()) == large);
  send_datagram(flow.socket.borrow(), large);
  cr_assert(receive_datagram(peer.borrow()) == large);
}

Test(udpd_listen, a_refused_raw_peer_hears_nothing) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0", raw);
  const auto peer = udp_to(port);
  send_datagram(peer.borrow(), "x");
  router.wire().refuse(router.expect("accepted"), {.word = ipc::Word::denied, .text = "no"});
  cr_assert_not(receive_datagram(peer.borrow(), soon));
  cr_assert(router.is_back_to_rest() || router.fds() > 0);
}

Test(udpd_listen, a_peer_whose_flow_ended_starts_a_new_one) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0", raw);
  const auto peer = udp_to(port);
  for (int round = 0; round < 3; ++round) {
    // Until the last copy of the closed socket is gone its datagrams go with it.
    cr_assert(eventually([&] {
      send_datagram(peer.borrow(), numbered(round));
      return is_readable(router.wire().borrow(), soon);
    }));
    admit(router);
    const auto flow = delivered(router);
    cr_assert_geq(flow.first.size(), 1);
    cr_assert(flow.first[0] == numbered(round));
  }
}

Test(udpd_listen, a_dialler_that_comes_back_from_its_port_after_the_flow_begins_a_new_one) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  for (unsigned char round = 1; round <= 3; ++round) {
    // Until the last copy of the closed socket is gone its datagrams go with it.
    cr_assert(eventually([&] {
      send_datagram(peer.borrow(), hello("pong", round));
      return is_readable(peer.borrow(), soon);
    }));
    const auto cookie = greet(peer.borrow(), "pong", round);
    admit(router);
    while (receive_hop(peer.borrow()).word.kind != Kind::answer) {}
    send_datagram(peer.borrow(), hop_word(Kind::done, round, cookie));
    const auto flow = delivered(router);
    send_datagram(peer.borrow(), numbered(round));
    cr_assert(receive_datagram(flow.socket.borrow()) == numbered(round));
  }
}

Test(udpd_listen, a_raw_flood_from_one_network_leaves_room_for_others) {
  constexpr int room = 8, flooders = 200;
  ScriptedRouter router{"udpd"};
  const auto port =
      router.listen_port("udp://0.0.0.0:0", std::string(raw) + R"(,"settings":{"flows_per_prefix":)" +
                                                std::to_string(room) + "}");
  std::vector<ipc::Fd> flood;
  for (int i = 1; i <= flooders; ++i) {
    flood.push_back(udp_to(port, "127.0.0.1", ("127.9.9." + std::to_string(i)).c_str()));
    send_datagram(flood.back().borrow(), "x");
  }
  const auto other = udp_to(port, "127.0.0.1", "127.9.8.1");
  send_datagram(other.borrow(), "y");
  const auto next = [&] {
    const auto question = router.expect("accepted");
    const auto peer = question.message->params["labels"].labels().at("peer.address");
    router.answer(question, R"({"token":"1","mode":"deliver"})");
    return peer;
  };
  for (int i = 0; i < room; ++i) cr_assert(next().starts_with("127.9.9."));
  // What is delivered meanwhile still counts.
  for (auto message = router.wire().receive();; message = router.wire().receive()) {
    if (message.message->method == "deliver") continue;
    cr_assert(message.message->params["labels"].labels().at("peer.address") == "127.9.8.1");
    return;
  }
}

Test(udpd_listen, no_peer_gets_anothers_datagrams_among_1000_on_one_port) {
  constexpr int peers = 1000;
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0", raw);
  std::vector<ipc::Fd> sockets;
  std::map<std::string, Delivered> flows;  // by the peer's own number
  for (int i = 0; i < peers; ++i) {
    sockets.push_back(udp_to(port));
    send_datagram(sockets.back().borrow(), std::to_string(i));
    admit(router, std::to_string(i + 1));
    // The others go on sending meanwhile.
    send_datagram(sockets[static_cast<std::size_t>(i / 2)].borrow(), std::to_string(i / 2));
    auto flow = delivered(router);
    cr_assert(flow.path == "direct");
    cr_assert_geq(flow.first.size(), 1);
    flows.emplace(flow.first[0], std::move(flow));
  }
  cr_assert_eq(flows.size(), peers);
  for (int i = 0; i < peers; ++i) {
    const auto name = std::to_string(i);
    auto& flow = flows.at(name);
    for (const auto& early : flow.first) cr_assert(early == name);
    send_datagram(flow.socket.borrow(), name);
    cr_assert(receive_datagram(sockets[static_cast<std::size_t>(i)].borrow()) == name);
    while (const auto got = receive_datagram(flow.socket.borrow(), Milliseconds{0})) cr_assert(*got == name);
  }
}

Test(udpd_listen, beyond_its_sockets_a_port_relays) {
  ScriptedRouter router{"udpd"};
  const auto port =
      router.listen_port("udp://127.0.0.1:0", std::string(raw) + R"(,"settings":{"direct_flows":2})");
  std::vector<ipc::Fd> peers;
  std::vector<Delivered> flows;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(udp_to(port));
    send_datagram(peers.back().borrow(), numbered(i));
    admit(router);
    flows.push_back(delivered(router));
    cr_assert(flows.back().path == (i < 2 ? "direct" : "relay"));
  }
  const auto& relayed = flows.back().socket;
  cr_assert(receive_datagram(relayed.borrow()) == numbered(3));
  for (const std::string text : {"one", "", "three"}) {
    send_datagram(peers.back().borrow(), text);
    cr_assert(receive_datagram(relayed.borrow()) == text);
    send_datagram(relayed.borrow(), text);
    cr_assert(receive_datagram(peers.back().borrow()) == text);
  }
  // The service goes; its peer begins anew.
  flows.pop_back();
  send_datagram(peers.back().borrow(), "again");
  admit(router);
  const auto again = delivered(router);
  cr_assert(receive_datagram(again.socket.borrow()) == "again");
}

Test(udpd_listen, relayed_flows_outlive_the_router_and_the_helper_ends_with_the_last) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port(
      "udp://127.0.0.1:0", std::string(raw) + R"(,"settings":{"direct_flows":0,"relay_idle_ms":5000})");
  const auto peer = udp_to(port);
  send_datagram(peer.borrow(), "first");
  admit(router);
  {
    const auto flow = delivered(router);
    cr_assert(receive_datagram(flow.socket.borrow()) == "first");
    router.close();
    // The port is free as soon as the listener is closed; from then on the flow has a socket of its own.
    cr_assert(eventually([&] {
      send_datagram(peer.borrow(), "later");
      send_datagram(flow.socket.borrow(), "answer");
      return receive_datagram(flow.socket.borrow(), soon) == "later" &&
             receive_datagram(peer.borrow(), soon) == "answer";
    }));
    cr_assert(router.helper().is_running());
  }
  cr_assert_eq(router.helper().wait(), 0);
}

Test(udpd_listen, unguarded_services_keep_their_boundaries) {
  for (const int type : {SOCK_SEQPACKET, SOCK_STREAM}) {
    ScriptedRouter router{"udpd"};
    const auto port = router.listen_port("udp://127.0.0.1:0", raw);
    const auto peer = udp_to(port);
    send_datagram(peer.borrow(), "first");
    auto pair = must(ipc::socket_pair(type));
    const int theirs = pair.second.borrow();
    router.answer(router.expect("accepted"), R"({"token":"1","mode":"relay","fd":0})", {&theirs, 1});
    pair.second = {};
    cr_assert(receive_datagram(pair.first.borrow()) == "first");
    send_datagram(peer.borrow(), "second");
    cr_assert(receive_datagram(pair.first.borrow()) == "second");
    for (const std::string text : {"one", "two"}) {
      send_datagram(pair.first.borrow(), text);
      cr_assert(receive_datagram(peer.borrow()) == text);
    }
  }
}

Test(udpd_listen, descriptors_that_a_service_sends_along_are_closed_at_once) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0", raw);
  const auto listener = listen_tcp();
  for (const int type : {SOCK_SEQPACKET, SOCK_DGRAM, SOCK_STREAM}) {
    const auto peer = udp_to(port);
    send_datagram(peer.borrow(), "first");
    auto pair = must(ipc::socket_pair(type));
    const int theirs = pair.second.borrow();
    router.answer(router.expect("accepted"), R"({"token":"1","mode":"relay","fd":0})", {&theirs, 1});
    pair.second = {};
    cr_assert(receive_datagram(pair.first.borrow()) == "first");
    const auto before = router.fds();
    for (int i = 0; i < 5; ++i) {
      const auto socket = lingering(listener);  // it would take udpd half a minute to close the last of these
      const int raw_fd = socket.borrow();
      must(ipc::send_with_fds(pair.first.borrow(), "answer", {&raw_fd, 1}));
      cr_assert(receive_datagram(peer.borrow()) == "answer");
    }
    cr_assert(eventually([&] { return router.fds() == before; }));
  }
}

Test(udpd_listen, with_a_framing_each_datagram_is_one_message_of_the_stream) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://127.0.0.1:0");
  const auto peer = udp_to(port);
  const auto frame = must(udpd::hello_frame({.service = "pong", .framing = ipc::Framing::ipc07}));
  const auto say = [&](const udpd::Cookie& cookie) {
    send_datagram(peer.borrow(),
                  udpd::encode({.kind = Kind::hello, .nonce = {1}, .cookie = cookie, .frame = frame}));
  };
  say({});
  say(receive_hop(peer.borrow()).word.cookie);
  auto pair = must(ipc::socket_pair(SOCK_STREAM));
  const int theirs = pair.second.borrow();
  router.answer(router.expect("accepted"), R"({"token":"1","mode":"relay","fd":0})", {&theirs, 1});
  pair.second = {};
  cr_assert(receive_hop(peer.borrow()).word.kind == Kind::answer);
  const auto message = ipc::frame_07(ipc::FrameType::data, 42, "hello");
  send_datagram(peer.borrow(), message);
  cr_assert(receive_exactly(pair.first.borrow(), message.size()) == message);
  send_datagram(peer.borrow(), message.substr(0, 8));  // no whole message: it must not spoil the next
  send_datagram(peer.borrow(), message);
  cr_assert(receive_exactly(pair.first.borrow(), message.size()) == message);
  send_all(pair.first.borrow(), message + message);
  cr_assert(receive_datagram(peer.borrow()) == message);
  cr_assert(receive_datagram(peer.borrow()) == message);
}

Test(udpd_listen, a_taken_port_is_said_to_be_taken) {
  ScriptedRouter first{"udpd"}, second{"udpd"};
  const auto port = first.listen_port("udp://127.0.0.1:0");
  cr_assert(second.listen("udp://127.0.0.1:" + std::to_string(port)).word() == "TAKEN");
  const auto other = udp_socket();
  cr_assert(second.listen("udp://127.0.0.1:" + std::to_string(port_of(other.borrow()))).word() == "TAKEN");
}

Test(udpd_listen, limits_hold_for_each_network_and_are_said_in_the_hop) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://0.0.0.0:0", R"("settings":{"flows_per_prefix":1})");
  const auto one = udp_to(port, "127.0.0.1", "127.0.1.1"), two = udp_to(port, "127.0.0.1", "127.0.1.2"),
             far = udp_to(port, "127.0.0.1", "127.0.2.1");
  greet(one.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(one.borrow()).word.frame == ipc::hop_ok());
  send_datagram(one.borrow(), "begin");
  auto flow = std::make_optional(delivered(router));
  greet(two.borrow(), "pong", 2);
  cr_assert(receive_hop(two.borrow()).word.frame.find("BUSY: ") != std::string_view::npos);
  greet(far.borrow(), "pong", 3);
  admit(router);
  cr_assert(receive_hop(far.borrow()).word.frame == ipc::hop_ok());
  flow.reset();  // its holder closes it: nobody tells udpd
  cr_assert(eventually([&] {
    greet(two.borrow(), "pong", 2);
    const auto answered = is_readable(router.wire().borrow(), soon);
    if (!answered) receive_datagram(two.borrow(), soon);
    return answered;
  }));
}
