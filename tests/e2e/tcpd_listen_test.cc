// tcpd's listeners, relays and end, seen from the router and from the far side.
#include <criterion/criterion.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <csignal>

#include "ipc/address.hh"
#include "tests/e2e/scripted_router.hh"

using namespace kit;
using ipc::Word;

namespace {
const std::string delivered = R"({"token":"t1","mode":"deliver"})";
const std::string raw = R"("service":"web")";

/// Asks for `pong` over a fresh connection and lets the router admit it; the dialler's end.
ipc::Fd admitted_by_hop(ScriptedRouter& router, std::uint16_t port) {
  auto client = connect_tcp(port);
  send_all(client.borrow(), hop_frame("pong"));
  router.answer(router.expect("accepted"), delivered);
  cr_assert(receive_frame(client.borrow()) == ipc::hop_ok());
  return client;
}

/// Nothing more is to be read; the other side closed.
bool is_at_end(int socket) { return receive_all(socket).empty(); }
}  // namespace

Test(tcpd_listen, port_zero_becomes_the_actual_port) {
  ScriptedRouter router{"tcpd"};
  const auto answer = router.listen("tcp://127.0.0.1:0");
  const std::string uri{answer.result()["uri"].string_or("")};
  cr_assert(uri.starts_with("tcp://127.0.0.1:"));
  cr_assert_not(uri.ends_with(":0"));
}

Test(tcpd_listen, a_hop_is_read_judged_answered_and_only_then_delivered) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0", {}, 5);
  const auto client = connect_tcp(port);
  send_all(client.borrow(), hop_frame("pong", 2));
  const auto question = router.expect("accepted");
  const auto params = question.message->params;
  cr_assert_eq(params["listen"].integer_or(0), 5);
  cr_assert(params["service"].string_or("") == "pong");
  cr_assert_eq(params["hops"].integer_or(0), 2);
  cr_assert(params["framing"].string_or("") == "bytes");
  const auto labels = params["labels"].labels();
  cr_assert(labels.at("scheme") == "tcp");
  cr_assert(labels.at("peer.address") == "127.0.0.1");
  cr_assert(labels.at("peer.port") == std::to_string(port_of(client.borrow())));
  cr_assert(labels.at("local.address") == "127.0.0.1");
  cr_assert_not(is_readable(client.borrow(), 0ms), "the answer came before the router's");
  router.answer(question, R"({"token":[7,"x"],"mode":"deliver"})");
  auto delivery = router.expect("deliver");
  cr_assert(delivery.message->params["token"].text() == R"([7,"x"])");
  const auto service = delivery.take_fd();
  cr_assert(is_fit_for_clients(service.borrow()));
  cr_assert(receive_frame(client.borrow()) == ipc::hop_ok());
  send_all(service.borrow(), "server first");
  cr_assert(receive_exactly(client.borrow(), 12) == "server first");
}

Test(tcpd_listen, a_bare_name_is_a_hop_too) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(client.borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, "pong"));
  cr_assert(router.expect("accepted").message->params["service"].string_or("") == "pong");
}

Test(tcpd_listen, a_hop_in_single_bytes_is_put_together_and_not_a_byte_more_read) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  for (const char byte : hop_frame("pong")) send_all(client.borrow(), {&byte, 1});
  const auto question = router.expect("accepted");
  send_all(client.borrow(), "too early");
  router.answer(question, delivered);
  auto delivery = router.expect("deliver");
  const auto service = delivery.take_fd();
  cr_assert(receive_exactly(service.borrow(), 9) == "too early");
}

Test(tcpd_listen, claims_and_framing_reach_the_router) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(
      client.borrow(),
      must(ipc::encode_hop({.service = "pong", .framing = ipc::Framing::ipc07, .claims = R"({"a":"b"})"})));
  const auto question = router.expect("accepted");
  cr_assert(question.message->params["framing"].string_or("") == "ipc07");
  cr_assert(question.message->params["claims"]["a"].string_or("") == "b");
}

Test(tcpd_listen, a_refusal_of_the_router_becomes_the_hops_answer) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(client.borrow(), hop_frame("pong") + "and more that nobody reads");
  router.wire().refuse(router.expect("accepted"), {.word = Word::denied, .text = "not for you"});
  cr_assert(receive_frame(client.borrow()) == ipc::frame_07(ipc::FrameType::error, 0, "DENIED: not for you"));
  cr_assert(is_at_end(client.borrow()));
}

Test(tcpd_listen, the_router_is_told_of_a_peer_that_went_away_while_it_decided) {
  ScriptedRouter router{"tcpd"};
  auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(client.borrow(), hop_frame("pong"));
  const auto question = router.expect("accepted");
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  cr_assert_eq(::setsockopt(client.borrow(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  client = {};  // a reset
  router.answer(question, delivered);
  cr_assert(router.expect("void").message->params["token"].string_or("") == "t1");
}

Test(tcpd_listen, what_is_no_hop_is_refused_without_asking_the_router) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0");
  const auto word_for = [&](const std::string& bytes) {
    const auto client = connect_tcp(port);
    send_all(client.borrow(), bytes);
    const auto answer = receive_frame(client.borrow());
    cr_assert(is_at_end(client.borrow()));
    cr_assert_eq(answer[0], 1);
    return answer.substr(6, answer.find(':', 6) - 6);
  };
  const auto json = [](std::string_view text) { return ipc::frame_07(ipc::FrameType::lookup, 4, text); };
  cr_assert(word_for("GET / HTTP/1.1\r\nHost: x\r\n\r\n") == "BAD_REQUEST");
  cr_assert(word_for(json("{")) == "BAD_REQUEST");
  cr_assert(word_for(json(R"({"v":2,"service":"pong","hops":1})")) == "BAD_REQUEST");
  cr_assert(word_for(json(R"({"v":1,"service":"../pong","hops":1})")) == "BAD_REQUEST");
  cr_assert(word_for(json(R"({"v":1,"service":"pong"})")) == "BAD_REQUEST");
  cr_assert(word_for(json(R"({"v":1,"service":"pong","hops":1,"framing":"x"})")) == "BAD_REQUEST");
  cr_assert(word_for(json(R"({"v":1,"service":"pong","hops":9})")) == "LOOP");
  cr_assert(word_for(ipc::frame_07(2, 4, "x")) == "BAD_REQUEST");
  cr_assert(word_for(ipc::frame_07(3, 9, "x")) == "BAD_REQUEST");
  cr_assert(word_for(ipc::frame_07(3, 3, std::string(4097, 'x'))) == "BAD_REQUEST");
  cr_assert(word_for(ipc::frame_07(3, 3, std::string("a\0b", 3))) == "BAD_REQUEST");
  cr_assert_not(is_readable(router.wire().borrow(), 0ms));
}

Test(tcpd_listen, who_dawdles_over_the_hop_is_closed_at_the_hop_timeout) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0", R"("settings":{"hop_timeout_ms":100})");
  const auto silent = connect_tcp(port);
  const auto slow = connect_tcp(port);
  send_all(slow.borrow(), hop_frame("pong").substr(0, 9));
  cr_assert(is_at_end(silent.borrow()));
  cr_assert(is_at_end(slow.borrow()));
}

Test(tcpd_listen, raw_connections_are_announced_at_once_and_nothing_is_written_to_them) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0", raw));
  const auto question = router.expect("accepted");
  cr_assert(question.message->params["service"].string_or("") == "web");
  router.answer(question, delivered);
  auto delivery = router.expect("deliver");
  const auto service = delivery.take_fd();
  cr_assert(is_fit_for_clients(service.borrow()));
  send_all(service.borrow(), "x");
  cr_assert(receive_exactly(client.borrow(), 1) == "x");
}

Test(tcpd_listen, a_refused_raw_connection_is_just_closed) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0", raw));
  router.wire().refuse(router.expect("accepted"), {.word = Word::denied, .text = "no"});
  cr_assert(is_at_end(client.borrow()));
}

Test(tcpd_listen, ipv6_and_ipv4_share_a_port_without_mapping) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://[::]:0", raw);
  const auto again = router.listen("tcp://0.0.0.0:" + std::to_string(port), raw);
  cr_assert(again.word().empty(), "%s", again.text.c_str());
  const auto six = connect_tcp(port, "::1");
  auto labels = router.expect("accepted").message->params["labels"].labels();
  cr_assert(labels.at("peer.address") == "::1");
  cr_assert(labels.at("local.address") == "::1");
  const auto four = connect_tcp(port, "127.0.0.3");
  labels = router.expect("accepted").message->params["labels"].labels();
  cr_assert(labels.at("peer.address") == "127.0.0.1");
  cr_assert(labels.at("local.address") == "127.0.0.3");
}

Test(tcpd_listen, localhost_is_both_loopbacks_on_one_port) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://localhost:0", raw);
  const auto four = connect_tcp(port);
  router.expect("accepted");
  const auto six = connect_tcp(port, "::1");
  router.expect("accepted");
}

Test(tcpd_listen, a_port_in_use_is_taken_and_a_name_is_no_place_to_listen) {
  ScriptedRouter router{"tcpd"};
  const auto holder = listen_tcp();
  cr_assert(router.listen("tcp://127.0.0.1:" + std::to_string(port_of(holder.borrow()))).word() == "TAKEN");
  cr_assert(router.listen("tcp://www.example.com:0").word() == "BAD_REQUEST");
  cr_assert(router.listen("tcp://192.0.2.1:0").word() == "UNREACHABLE");
  cr_assert(router.wire().call("listen", R"({"id":{},"uri":"tcp://127.0.0.1:0"})").word() == "BAD_REQUEST");
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_listen, unlisten_closes_the_socket_and_what_was_not_admitted_and_frees_the_port) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0", {}, 3);
  const auto admitted = admitted_by_hop(router, port);
  const auto delivery = router.expect("deliver");
  const auto waiting = connect_tcp(port);
  send_all(waiting.borrow(), hop_frame("pong"));
  const auto question = router.expect("accepted");
  router.notify("unlisten", R"({"id":3})");
  cr_assert(is_at_end(waiting.borrow()));
  router.answer(question, delivered);  // too late
  const auto again = router.listen("tcp://127.0.0.1:" + std::to_string(port));
  cr_assert(again.word().empty(), "%s", again.text.c_str());
  cr_assert_not(is_readable(admitted.borrow(), 0ms));
}

Test(tcpd_listen, dawdlers_make_room_for_newcomers) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0", R"("settings":{"hop_timeout_ms":60000})");
  std::vector<ipc::Fd> dawdlers;
  for (int i = 0; i < 1024; ++i) dawdlers.push_back(connect_tcp(port));
  const auto client = admitted_by_hop(router, port);
  cr_assert(is_at_end(dawdlers.front().borrow()));
  cr_assert_not(is_readable(dawdlers.back().borrow(), 0ms));
}

Test(tcpd_listen, who_waits_for_the_router_takes_nobodys_place) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0");
  std::vector<ipc::Fd> asking;
  std::vector<Wire::Datagram> questions;
  for (int i = 0; i < 1030; ++i) {
    asking.push_back(connect_tcp(port));
    send_all(asking.back().borrow(), hop_frame("slow"));
    questions.push_back(router.expect("accepted"));
  }
  const auto newcomer = admitted_by_hop(router, port);
  router.answer(questions.front(), delivered);
  cr_assert(receive_frame(asking.front().borrow()) == ipc::hop_ok());
}

Test(tcpd_listen, out_of_descriptors_accepting_pauses_and_resumes_without_a_busy_loop) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0", raw);
  rlimit few{};
  ::prlimit(router.helper().pid(), RLIMIT_NOFILE, nullptr, &few);
  const rlimit before = few;
  few.rlim_cur = router.fds() + 1;
  ::prlimit(router.helper().pid(), RLIMIT_NOFILE, &few, nullptr);
  const auto first = connect_tcp(port);
  const auto question = router.expect("accepted");
  const auto second = connect_tcp(port);
  cr_assert(router.expect("log").text.find("accepting pauses") != std::string::npos);
  ::prlimit(router.helper().pid(), RLIMIT_NOFILE, &before, nullptr);
  router.expect("accepted");
  router.answer(question, delivered);
  router.expect("deliver");
}

Test(tcpd_listen, relay_mode_carries_between_the_socket_and_the_service) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(client.borrow(), hop_frame("pong"));
  auto [service, theirs] = must(ipc::socket_pair(SOCK_STREAM));
  const int raw_fd = theirs.borrow();
  router.answer(router.expect("accepted"), R"({"token":"t","mode":"relay","fd":0})", std::span{&raw_fd, 1});
  theirs = ipc::Fd{};
  cr_assert(receive_frame(client.borrow()) == ipc::hop_ok());
  must(ipc::set_blocking(service.borrow(), true));
  send_all(client.borrow(), "up");
  cr_assert(receive_exactly(service.borrow(), 2) == "up");
  send_all(service.borrow(), "down");
  ::shutdown(service.borrow(), SHUT_WR);
  cr_assert(receive_all(client.borrow()) == "down");
  send_all(client.borrow(), "more");
  ::shutdown(client.borrow(), SHUT_WR);
  cr_assert(receive_all(service.borrow()) == "more");
}

Test(tcpd_listen, relay_mode_keeps_the_messages_of_ipc07_whole) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  send_all(client.borrow(), must(ipc::encode_hop({.service = "pong", .framing = ipc::Framing::ipc07})));
  auto [service, theirs] = must(ipc::socket_pair(SOCK_STREAM));
  const int raw_fd = theirs.borrow();
  router.answer(router.expect("accepted"), R"({"token":"t","mode":"relay","fd":0})", std::span{&raw_fd, 1});
  receive_frame(client.borrow());
  must(ipc::set_blocking(service.borrow(), true));
  const auto one = ipc::frame_07(2, 42, "one"), two = ipc::frame_07(2, 42, "two");
  send_all(client.borrow(), one + two);
  std::string buffer(4096, '\0');
  for (const auto& message : {one, two}) {
    const auto size = ::recv(service.borrow(), buffer.data(), buffer.size(), 0);
    cr_assert(buffer.substr(0, static_cast<std::size_t>(size)) == message);
  }
}

Test(tcpd_relay, two_descriptors_of_the_router_are_joined) {
  ScriptedRouter router{"tcpd"};
  auto [a, relayed_a] = must(ipc::socket_pair(SOCK_STREAM));
  auto [b, relayed_b] = must(ipc::socket_pair(SOCK_STREAM));
  const std::array<int, 2> raw_fds{relayed_a.borrow(), relayed_b.borrow()};
  router.notify("relay", R"({"a":0,"b":1,"framing":"bytes"})", raw_fds);
  relayed_a = ipc::Fd{};
  relayed_b = ipc::Fd{};
  for (const auto* end : {&a, &b}) must(ipc::set_blocking(end->borrow(), true));
  send_all(a.borrow(), "from a");
  cr_assert(receive_exactly(b.borrow(), 6) == "from a");
  a = ipc::Fd{};
  cr_assert(is_at_end(b.borrow()));
  b = ipc::Fd{};
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_relay, outlives_the_router_and_then_the_helper_exits) {
  ScriptedRouter router{"tcpd"};
  const auto port = router.listen_port("tcp://127.0.0.1:0");
  auto [a, relayed_a] = must(ipc::socket_pair(SOCK_STREAM));
  auto [b, relayed_b] = must(ipc::socket_pair(SOCK_STREAM));
  const std::array<int, 2> raw_fds{relayed_a.borrow(), relayed_b.borrow()};
  router.notify("relay", R"({"a":0,"b":1,"framing":"bytes"})", raw_fds);
  relayed_a = ipc::Fd{};
  relayed_b = ipc::Fd{};
  for (const auto* end : {&a, &b}) must(ipc::set_blocking(end->borrow(), true));
  send_all(a.borrow(), "1");
  cr_assert(receive_exactly(b.borrow(), 1) == "1");
  router.close();
  cr_assert(eventually([&] {  // the listener goes at once
    const ipc::Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_storage place;
    const auto size = ipc::to_sockaddr(*ipc::parse_address("127.0.0.1"), port, place);
    return ::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&place), size) != 0;
  }));
  cr_assert(router.helper().is_running());
  send_all(a.borrow(), "2");
  cr_assert(receive_exactly(b.borrow(), 1) == "2");
  a = ipc::Fd{};
  b = ipc::Fd{};
  cr_assert_eq(router.helper().wait(), 0);
}

Test(tcpd_end, without_relays_the_end_of_the_channel_is_the_end) {
  ScriptedRouter router{"tcpd"};
  const auto client = connect_tcp(router.listen_port("tcp://127.0.0.1:0"));
  router.send_dial(1, "tcp://192.0.2.1:9");
  router.close();
  cr_assert_eq(router.helper().wait(), 0);
  cr_assert(is_at_end(client.borrow()));
}

Test(tcpd_end, sigterm_ends_it_and_the_terminals_signals_do_not) {
  ScriptedRouter router{"tcpd"};
  router.helper().signal(SIGINT);
  router.helper().signal(SIGHUP);
  cr_assert_not(router.listen("tcp://127.0.0.1:0").result()["uri"].string_or("").empty());
  cr_assert_eq(router.helper().stop(), 0);
}

Test(tcpd_cli, by_hand_it_says_what_it_wants) {
  auto outcome = run({.args = {binary("tcpd")}, .env = {"PLUMBERD_HELPER_FD"}});
  cr_assert_eq(outcome.status, 100);
  cr_assert(outcome.error.find("PLUMBERD_HELPER_FD") != std::string::npos);
  for (const char* wrong :
       {"PLUMBERD_HELPER_FD=x", "PLUMBERD_HELPER_FD=-1", "PLUMBERD_HELPER_FD=0", "PLUMBERD_HELPER_FD=77"})
    cr_assert_eq(run({.args = {binary("tcpd")}, .env = {wrong}}).status, 100);
  cr_assert_eq(run({.args = {binary("tcpd"), "--listen"}}).status, 100);
  outcome = run({.args = {binary("tcpd"), "--help"}});
  cr_assert_eq(outcome.status, 0);
  cr_assert(outcome.output.find("tcp") != std::string::npos);
  outcome = run({.args = {binary("tcpd"), "--version"}});
  cr_assert_eq(outcome.status, 0);
  cr_assert(outcome.output.starts_with("tcpd "));
}
