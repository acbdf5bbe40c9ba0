// tcpd's dials, seen from the router.
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/e2e/scripted_router.hh"

using namespace kit;
using ipc::Word;

namespace {
std::string tcp(const std::string& host, std::uint16_t port, const std::string& path = "") {
  return "tcp://" + host + ":" + std::to_string(port) + path;
}
constexpr const char* with_hop = R"("service":"pong","hops":1,"judge":false)";

/// A far router's helper: reads the hop, answers, then says `more`.
auto far_side(std::string answer, std::string more = {}, std::string* seen = nullptr) {
  return [=](int socket) {
    const auto hop = receive_frame(socket);
    if (seen != nullptr) *seen = hop;
    send_all(socket, answer);
    if (!more.empty()) send_all(socket, more);
    receive_all(socket);
  };
}

std::string text_of(const Wire::Datagram& answer) { return answer.message->failure.text; }

/// Takes what the kernel would give an ordinary connection, and answers nothing: its queue is full.
struct SilentServer {
  ipc::Fd listener = listen_tcp();
  std::vector<ipc::Fd> fill{};
  std::uint16_t port = port_of(listener.borrow());
  SilentServer() {
    ::listen(listener.borrow(), 0);
    for (int i = 0; i < 2; ++i) {
      ipc::Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
      sockaddr_in address{
          .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
      ::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
      fill.push_back(std::move(socket));
    }
  }
};
}  // namespace

Test(tcpd_dial, a_literal_address_is_connected_and_the_socket_itself_handed_over) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  auto answer = router.dial(tcp("127.0.0.1", server.port()));
  const auto socket = answer.take_fd();
  cr_assert(answer.result()["path"].string_or("") == "direct");
  const auto labels = answer.result()["labels"].labels();
  cr_assert(labels.at("scheme") == "tcp");
  cr_assert(labels.at("peer.address") == "127.0.0.1");
  cr_assert(labels.at("peer.port") == std::to_string(server.port()));
  cr_assert(labels.at("local.address") == "127.0.0.1");
  cr_assert(is_fit_for_clients(socket.borrow()));
  cr_assert(router.is_back_to_rest());
  send_all(socket.borrow(), "hello\n");
  cr_assert(receive_exactly(socket.borrow(), 5) == "pong\n");
}

Test(tcpd_dial, ipv6_works) {
  TcpServer server{pong, "::1"};
  ScriptedRouter router{"tcpd"};
  auto answer = router.dial(tcp("[::1]", server.port()));
  const auto socket = answer.take_fd();
  cr_assert(answer.result()["labels"].labels().at("peer.address") == "::1");
  cr_assert(is_fit_for_clients(socket.borrow()));
}

Test(tcpd_dial, a_name_is_judged_with_all_its_addresses_before_any_is_connected) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  router.send_dial(7, tcp("localhost", server.port()), R"("judge":true)");
  auto question = router.expect("judge");
  cr_assert_eq(question.message->params["dial"].integer_or(0), 7);
  const auto addresses = question.message->params["addresses"].strings();
  const std::vector<std::string> both{"127.0.0.1", "::1"};
  cr_assert(addresses == both);
  cr_assert_eq(server.connections(), 0);
  router.answer(question, R"({"allowed":["127.0.0.1"]})");
  auto answer = router.wire().receive();
  cr_assert(answer.take_fd());
}

Test(tcpd_dial, what_the_judge_denies_is_never_connected) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  router.send_dial(7, tcp("localhost", server.port()), R"("judge":true)");
  auto question = router.expect("judge");
  router.wire().refuse(
      question, {.word = Word::denied, .text = "denied by a rule", .rule = "deny out * *", .at = "f:3"});
  auto answer = router.wire().receive();
  cr_assert(answer.word() == "DENIED");
  cr_assert(answer.message->failure.rule == "deny out * *");
  router.send_dial(8, tcp("localhost", server.port()), R"("judge":true)");
  question = router.expect("judge");
  router.answer(question, R"({"allowed":["127.0.0.2"]})");  // not asked about: not to be trusted
  cr_assert(router.wire().receive().word() == "DENIED");
  cr_assert_eq(server.connections(), 0);
}

Test(tcpd_dial, given_addresses_are_dialled_and_nothing_is_resolved) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  auto answer =
      router.dial(tcp("no-such-name.invalid", server.port()), R"("judge":false,"addresses":["127.0.0.1"])");
  cr_assert(answer.take_fd());
}

Test(tcpd_dial, a_dead_address_is_overtaken_by_the_next) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  const SilentServer silent;
  // The first address neither answers nor refuses; the second does both families' turn.
  auto more = std::string(R"("judge":false,"addresses":["127.0.0.1","127.0.0.2"])");
  ipc::Fd other{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(silent.port), .sin_addr = {htonl(0x7f000002)}};
  cr_assert_eq(::bind(other.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  cr_assert_eq(::listen(other.borrow(), 8), 0);
  auto answer = router.dial(tcp("two.example", silent.port), more);
  cr_assert(answer.take_fd());
  cr_assert(answer.result()["labels"].labels().at("peer.address") == "127.0.0.2");
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, a_refusing_address_gives_way_to_the_next) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  auto answer = router.dial(tcp("two.example", server.port()),
                            R"("judge":false,"addresses":["127.0.0.9","::1","127.0.0.1"])");
  cr_assert(answer.take_fd());
  cr_assert(answer.result()["labels"].labels().at("peer.address") == "127.0.0.1");
}

Test(tcpd_dial, a_refused_connection_says_who_refused_and_why) {
  ScriptedRouter router{"tcpd"};
  const auto port = free_port();
  const auto answer = router.dial(tcp("127.0.0.1", port));
  cr_assert(answer.word() == "UNREACHABLE");
  cr_assert(text_of(answer).find("127.0.0.1:" + std::to_string(port)) != std::string::npos, "%s",
            text_of(answer).c_str());
  cr_assert(text_of(answer).find("refused") != std::string::npos);
  cr_assert_not(answer.message->failure.far);
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, a_name_without_addresses_is_unreachable) {
  ScriptedRouter router{"tcpd"};
  const auto answer = router.dial("tcp://no-such-name.invalid:1");
  cr_assert(answer.word() == "UNREACHABLE");
  cr_assert(text_of(answer).find("no-such-name.invalid") != std::string::npos);
}

Test(tcpd_dial, the_deadline_ends_a_dial_to_a_silent_server) {
  ScriptedRouter router{"tcpd"};
  const SilentServer silent;
  const auto answer = router.dial(tcp("127.0.0.1", silent.port), R"("judge":false,"deadline_ms":100)");
  cr_assert(answer.word() == "TIMEOUT");
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, cancel_ends_a_dial_and_it_is_answered) {
  ScriptedRouter router{"tcpd"};
  const SilentServer silent;
  router.send_dial(9, tcp("127.0.0.1", silent.port));
  router.notify("cancel", R"({"id":9})");
  const auto answer = router.wire().receive();
  cr_assert_not(answer.word().empty());
  cr_assert(answer.message->id == "9");
  cr_assert(router.is_back_to_rest());
  router.notify("cancel", R"({"id":9})");
  TcpServer server{pong};
  cr_assert(router.dial(tcp("127.0.0.1", server.port())).take_fd());
}

Test(tcpd_dial, the_source_address_is_obeyed) {
  TcpServer server{pong};
  ScriptedRouter router{"tcpd"};
  auto answer =
      router.dial(tcp("127.0.0.1", server.port()), R"("judge":false,"settings":{"source":"127.0.0.5"})");
  const auto socket = answer.take_fd();
  int without_port = -1;
  socklen_t size = sizeof without_port;
  cr_assert_eq(::getsockopt(socket.borrow(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &without_port, &size), 0);
  cr_assert_eq(without_port, 0, "no option of ours is left on");
  cr_assert(answer.result()["labels"].labels().at("local.address") == "127.0.0.5");
}

Test(tcpd_dial, the_hop_names_the_service_and_leaves_the_first_byte_alone) {
  std::string seen;
  TcpServer server{far_side(ipc::hop_ok(), "first words", &seen)};
  ScriptedRouter router{"tcpd"};
  auto answer = router.dial(tcp("127.0.0.1", server.port(), "/other"), with_hop);
  const auto socket = answer.take_fd();
  cr_assert(seen == ipc::frame_07(ipc::FrameType::lookup, 4, R"({"v":1,"service":"pong","hops":1})"));
  cr_assert(receive_exactly(socket.borrow(), 11) == "first words");
  cr_assert(is_fit_for_clients(socket.borrow()));
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, framing_and_claims_travel_in_the_hop) {
  std::string seen;
  TcpServer server{far_side(ipc::hop_ok(), {}, &seen)};
  ScriptedRouter router{"tcpd"};
  auto answer =
      router.dial(tcp("127.0.0.1", server.port(), "/pong"),
                  R"("service":"pong","hops":3,"framing":"ipc07","claims":{"app":"x"},"judge":false)");
  cr_assert(answer.take_fd());
  cr_assert(seen.substr(6) == R"({"v":1,"service":"pong","hops":3,"framing":"ipc07","claims":{"app":"x"}})");
}

Test(tcpd_dial, a_refusal_of_the_far_side_keeps_its_word_and_sentence) {
  TcpServer server{
      far_side(ipc::frame_07(ipc::FrameType::error, 0, "UNKNOWN_SERVICE: nobody offers pong\x1b"))};
  ScriptedRouter router{"tcpd"};
  const auto answer = router.dial(tcp("127.0.0.1", server.port(), "/pong"), with_hop);
  cr_assert(answer.word() == "UNKNOWN_SERVICE");
  cr_assert(text_of(answer) == "127.0.0.1 says: nobody offers pong\\x1b", "%s", text_of(answer).c_str());
  cr_assert(answer.message->failure.far);
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, garbage_instead_of_an_answer_is_no_router) {
  const std::vector<std::string> rubbish{"HTTP/1.1 400 Bad Request\r\n\r\n", ipc::frame_07(2, 0, "ok"),
                                         ipc::frame_07(1, 0, "no colon"), ipc::frame_07(1, 0, "NO_ROUTER: x"),
                                         std::string(5000, '\0')};
  ScriptedRouter router{"tcpd"};
  for (const auto& answer_bytes : rubbish) {
    TcpServer server{far_side(answer_bytes)};
    const auto answer = router.dial(tcp("127.0.0.1", server.port(), "/pong"), with_hop);
    cr_assert(answer.word() == "UNREACHABLE", "%s", answer.text.c_str());
    cr_assert_not(answer.message->failure.far);
  }
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, a_far_side_that_hangs_up_within_the_hop_is_unreachable) {
  TcpServer server{[](int socket) {
    receive_frame(socket);
    send_all(socket, ipc::hop_ok().substr(0, 3));
  }};
  ScriptedRouter router{"tcpd"};
  cr_assert(router.dial(tcp("127.0.0.1", server.port(), "/pong"), with_hop).word() == "UNREACHABLE");
}

Test(tcpd_dial, an_answer_of_single_bytes_is_put_together) {
  TcpServer server{[](int socket) {
    receive_frame(socket);
    for (const char byte : ipc::hop_ok() + "x") send_all(socket, {&byte, 1});
    receive_all(socket);
  }};
  ScriptedRouter router{"tcpd"};
  auto answer = router.dial(tcp("127.0.0.1", server.port(), "/pong"), with_hop);
  const auto socket = answer.take_fd();
  cr_assert(receive_exactly(socket.borrow(), 1) == "x");
}

Test(tcpd_dial, an_answer_that_never_becomes_whole_ends_at_the_hop_timeout) {
  TcpServer server{[](int socket) {
    receive_frame(socket);
    send_all(socket, ipc::hop_ok().substr(0, 7));
    receive_all(socket);
  }};
  ScriptedRouter router{"tcpd"};
  const auto answer = router.dial(tcp("127.0.0.1", server.port(), "/pong"),
                                  R"("service":"pong","judge":false,"settings":{"hop_timeout_ms":100})");
  cr_assert(answer.word() == "TIMEOUT");
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, on_a_socket_that_is_connected_already_only_the_hop_is_made) {
  TcpServer server{far_side(ipc::hop_ok(), "hello")};
  ScriptedRouter router{"tcpd"};
  const auto warm = connect_tcp(server.port());
  const int raw = warm.borrow();
  const auto params =
      R"({"id":1,"uri":"tcp://far.example/pong","service":"pong","judge":false,"deadline_ms":5000,"settings":{},"fd":0})";
  router.wire().send(ipc::rpc::request("1", "dial", params), std::span{&raw, 1});
  auto answer = router.wire().receive();
  const auto socket = answer.take_fd();
  cr_assert_eq(inode_of(socket.borrow()), inode_of(raw));
  cr_assert_eq(server.connections(), 1);
  cr_assert(receive_exactly(socket.borrow(), 5) == "hello");
}

Test(tcpd_dial, many_dials_are_under_way_at_once) {
  TcpServer server{far_side(ipc::hop_ok())};
  ScriptedRouter router{"tcpd"};
  for (int id = 1; id <= 50; ++id) router.send_dial(id, tcp("127.0.0.1", server.port(), "/pong"), with_hop);
  for (int i = 0; i < 50; ++i) cr_assert(router.wire().receive().take_fd());
  cr_assert(router.is_back_to_rest());
}

Test(tcpd_dial, what_the_router_gets_wrong_is_answered_and_harmless) {
  ScriptedRouter router{"tcpd"};
  const auto bad = [&](std::string_view params) {
    const auto answer = router.wire().call("dial", params);
    cr_assert(answer.word() == "BAD_REQUEST", "%s", answer.text.c_str());
  };
  bad(R"({})");
  bad(R"({"id":1})");
  bad(R"({"id":[],"uri":"tcp://127.0.0.1:1"})");
  bad(R"({"id":1,"uri":"tcp://127.1:1"})");
  bad(R"({"id":1,"uri":7})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","addresses":[]})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","addresses":["localhost"]})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","service":"../x"})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","service":"x","framing":"morse"})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","settings":{"source":"here"}})");
  bad(R"({"id":1,"uri":"tcp://127.0.0.1:1","fd":0})");
  cr_assert(router.wire().call("fly", "{}").text.find("-32601") != std::string::npos);
  router.wire().send("no json");
  cr_assert(router.wire().receive().text.find("-32700") != std::string::npos);
  router.notify("relay", R"({"a":0,"b":1})");
  router.expect("log");
  router.notify("unheard", "{}");
  router.notify("unlisten", R"({"id":77})");
  TcpServer server{pong};
  cr_assert(router.dial(tcp("127.0.0.1", server.port())).take_fd());
  cr_assert(router.is_back_to_rest());
}
