// What docs/protocol.md, section 4, asks of any helper, of ours and of the one in Python that was written
// from the document alone: the same conversation with both.
#include <criterion/criterion.h>
#include <sys/socket.h>

#include "tests/e2e/scripted_router.hh"

using namespace kit;
using ipc::Word;

namespace {
struct Kind {
  std::string scheme;
  Command command;
  std::string uri(std::uint16_t port, const std::string& path = {},
                  const std::string& host = "127.0.0.1") const {
    return scheme + "://" + host + ":" + std::to_string(port) + path;
  }
};

std::vector<Kind> every_helper() {
  std::vector<Kind> kinds{{"tcp", {.args = {binary("tcpd")}}}};
  if (installed("python3"))
    kinds.push_back({"loop", {.args = {"python3", source_dir() + "/tests/helpers/loopd.py"}}});
  return kinds;
}

/// Runs the conversation with each, and counts descriptors at the end.
template <class Conversation>
void with_every_helper(Conversation conversation) {
  for (const auto& kind : every_helper()) {
    ScriptedRouter router{kind.command};
    conversation(router, kind);
    cr_assert(router.is_back_to_rest(), "%s holds %zu descriptors", kind.scheme.c_str(), router.fds());
  }
}

constexpr const char* with_hop = R"("service":"pong","hops":1,"judge":false)";
constexpr const char* deliver = R"({"token":"t1","mode":"deliver"})";

/// A far router: reads the hop, answers, and says no more.
auto far_side(std::string answer, std::string* seen = nullptr) {
  return [=](int socket) {
    const auto hop = receive_frame(socket);
    if (seen != nullptr) *seen = hop;
    send_all(socket, answer);
    receive_all(socket);
  };
}

bool is_at_end(int socket) { return receive_all(socket).empty(); }
}  // namespace

Test(every_helper, connects_and_hands_over_the_socket_itself) {
  TcpServer server{pong};
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    auto answer = router.dial(kind.uri(server.port()));
    const auto socket = answer.take_fd();
    cr_assert(is_fit_for_clients(socket.borrow()));
    cr_assert(answer.result()["path"].string_or("") == "direct");
    const auto labels = answer.result()["labels"].labels();
    cr_assert_eq(labels.at("scheme"), kind.scheme);
    cr_assert_eq(labels.at("peer.address"), "127.0.0.1");
    cr_assert_eq(labels.at("peer.port"), std::to_string(server.port()));
    cr_assert_eq(labels.at("local.address"), "127.0.0.1");
    send_all(socket.borrow(), "hello\n");
    cr_assert_eq(receive_exactly(socket.borrow(), 5), "pong\n");
  });
}

Test(every_helper, asks_about_all_addresses_and_connects_to_none_but_the_allowed) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    TcpServer server{pong};
    const std::vector<std::string> both{"127.0.0.1", "::1"};
    for (const auto* allowed :
         {R"({"allowed":[]})", R"({"allowed":["127.0.0.2"]})", R"({"allowed":["127.0.0.1"]})"}) {
      router.send_dial(7, kind.uri(server.port(), {}, "localhost"), R"("judge":true)");
      const auto question = router.expect("judge");
      cr_assert_eq(question.message->params["dial"].integer_or(0), 7);
      cr_assert(question.message->params["addresses"].strings() == both);
      cr_assert_eq(server.connections(), 0);
      router.answer(question, allowed);
      auto answer = router.wire().receive();
      if (std::string_view(allowed).find("127.0.0.1") != std::string_view::npos)
        cr_assert(answer.take_fd());
      else
        cr_assert_eq(answer.word(), "DENIED");
    }
    router.send_dial(8, kind.uri(server.port(), {}, "localhost"), R"("judge":true)");
    router.wire().refuse(router.expect("judge"),
                         {.word = Word::denied, .text = "by a rule", .rule = "deny out * *", .at = "f:3"});
    const auto refused = router.wire().receive();
    cr_assert_eq(refused.word(), "DENIED");
    cr_assert_eq(refused.message->failure.at, "f:3");
    cr_assert(eventually([&] { return server.connections() == 1; }));
  });
}

Test(every_helper, dials_the_addresses_it_is_given_one_after_the_other) {
  TcpServer server{pong};
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    auto answer = router.dial(kind.uri(server.port(), {}, "two.localhost"),
                              R"("judge":false,"addresses":["127.0.0.9","127.0.0.1"])");
    const auto socket = answer.take_fd();
    cr_assert_eq(answer.result()["labels"]["peer.address"].string_or(""), "127.0.0.1");
    auto sourced = router.dial(kind.uri(server.port()), R"("judge":false,"settings":{"source":"127.0.0.5"})");
    cr_assert(sourced.take_fd());
    cr_assert_eq(sourced.result()["labels"]["local.address"].string_or(""), "127.0.0.5");
    cr_assert_eq(router.dial(kind.uri(free_port())).word(), "UNREACHABLE");
  });
}

Test(every_helper, makes_the_hop_it_is_told_to_make_and_reads_nothing_behind_the_answer) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    std::string seen;
    TcpServer server{far_side(ipc::hop_ok() + "first words", &seen)};
    auto plain = router.dial(kind.uri(server.port(), "/other"), with_hop);
    cr_assert_eq(receive_exactly(plain.take_fd().borrow(), 11), "first words");
    cr_assert_eq(seen, hop_frame("pong"));
    auto whole =
        router.dial(kind.uri(server.port(), "/pong"),
                    R"("service":"pong","hops":3,"framing":"ipc07","claims":{"app":"x"},"judge":false)");
    cr_assert(whole.take_fd());
    cr_assert_eq(seen.substr(6),
                 R"({"v":1,"service":"pong","hops":3,"framing":"ipc07","claims":{"app":"x"}})");
    const auto warm = connect_tcp(server.port());
    const int raw = warm.borrow();
    const auto params =
        R"({"id":1,"uri":")" + kind.uri(server.port(), "/pong") +
        R"(","service":"pong","hops":1,"judge":false,"deadline_ms":5000,"settings":{},"fd":0})";
    router.wire().send(ipc::rpc::request("1", "dial", params), std::span{&raw, 1});
    auto spare = router.wire().receive();
    const auto socket = spare.take_fd();
    cr_assert_eq(inode_of(socket.borrow()), inode_of(raw));
    cr_assert_eq(receive_exactly(socket.borrow(), 11), "first words");
  });
}

Test(every_helper, brings_back_what_the_far_side_said_or_that_it_was_no_router) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    TcpServer refusing{
        far_side(ipc::frame_07(ipc::FrameType::error, 0, "UNKNOWN_SERVICE: nobody offers pong\x1b"))};
    const auto refused = router.dial(kind.uri(refusing.port(), "/pong"), with_hop);
    cr_assert_eq(refused.word(), "UNKNOWN_SERVICE");
    cr_assert_eq(refused.message->failure.text, "127.0.0.1 says: nobody offers pong\\x1b");
    cr_assert(refused.message->failure.far);
    for (const auto& rubbish :
         {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), ipc::frame_07(2, 0, "ok"),
          ipc::frame_07(1, 0, "no colon"), ipc::frame_07(1, 0, "MAYBE: x"), std::string(5000, '\0')}) {
      TcpServer server{far_side(rubbish)};
      const auto answer = router.dial(kind.uri(server.port(), "/pong"), with_hop);
      cr_assert_eq(answer.word(), "UNREACHABLE", "%s", answer.text.c_str());
      cr_assert_not(answer.message->failure.far);
    }
  });
}

Test(every_helper, is_done_by_its_deadline_by_the_hops_or_when_nobody_waits) {
  TcpServer silent{[](int socket) { receive_all(socket); }};
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    const auto uri = kind.uri(silent.port(), "/pong");
    cr_assert_eq(router.dial(uri, R"("service":"pong","hops":1,"judge":false,"deadline_ms":100)").word(),
                 "TIMEOUT");
    cr_assert_eq(
        router.dial(uri, R"("service":"pong","hops":1,"judge":false,"settings":{"hop_timeout_ms":100})")
            .word(),
        "TIMEOUT");
    router.send_dial(9, uri, with_hop);
    router.notify("cancel", R"({"id":9})");
    cr_assert_not(router.wire().receive().word().empty());
    router.notify("cancel", R"({"id":9})");
  });
}

Test(every_helper, reads_a_hop_asks_answers_and_only_then_delivers) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    const auto port = router.listen_port(kind.uri(0), {}, 5);
    const auto client = connect_tcp(port);
    for (const char byte : must(ipc::encode_hop(
             {.service = "pong", .hops = 2, .framing = ipc::Framing::ipc1, .claims = R"({"a":"b"})"})))
      send_all(client.borrow(), {&byte, 1});
    const auto question = router.expect("accepted");
    const auto params = question.message->params;
    cr_assert_eq(params["listen"].integer_or(0), 5);
    cr_assert_eq(params["service"].string_or(""), "pong");
    cr_assert_eq(params["hops"].integer_or(0), 2);
    cr_assert_eq(params["framing"].string_or(""), "ipc1");
    cr_assert_eq(params["claims"]["a"].string_or(""), "b");
    cr_assert_eq(params["labels"]["scheme"].string_or(""), kind.scheme);
    cr_assert_eq(params["labels"]["peer.port"].string_or(""), std::to_string(port_of(client.borrow())));
    cr_assert_not(is_readable(client.borrow(), 0ms), "the answer came before the router's");
    router.answer(question, R"({"token":[7,"x"],"mode":"deliver"})");
    auto delivery = router.expect("deliver");
    cr_assert_eq(delivery.message->params["token"].text(), R"([7,"x"])");
    const auto service = delivery.take_fd();
    cr_assert(is_fit_for_clients(service.borrow()));
    cr_assert_eq(receive_frame(client.borrow()), ipc::hop_ok());
    send_all(service.borrow(), "server first");
    cr_assert_eq(receive_exactly(client.borrow(), 12), "server first");
    router.notify("unlisten", R"({"id":5})");
  });
}

Test(every_helper, answers_a_refusal_and_what_is_no_hop_and_closes) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    const auto port = router.listen_port(kind.uri(0), R"("settings":{"hop_timeout_ms":200})", 5);
    const auto refused = connect_tcp(port);
    send_all(refused.borrow(), hop_frame("pong") + "and more that nobody reads");
    router.wire().refuse(router.expect("accepted"), {.word = Word::denied, .text = "not for you"});
    cr_assert_eq(receive_frame(refused.borrow()),
                 ipc::frame_07(ipc::FrameType::error, 0, "DENIED: not for you"));
    cr_assert(is_at_end(refused.borrow()));
    const auto json = [](std::string_view text) { return ipc::frame_07(ipc::FrameType::lookup, 4, text); };
    for (const auto& bytes :
         {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), json("{"),
          json(R"({"v":2,"service":"pong","hops":1})"), json(R"({"v":1,"service":"pong","hops":0})"),
          json(R"({"v":1,"service":"pong","hops":1,"framing":"x"})"), ipc::frame_07(2, 4, "x"),
          ipc::frame_07(3, 9, "x"), ipc::frame_07(3, 3, std::string(4097, 'x'))}) {
      const auto client = connect_tcp(port);
      send_all(client.borrow(), bytes);
      const auto answer = receive_frame(client.borrow());
      cr_assert_eq(answer.substr(6, 13), "BAD_REQUEST: ", "%s", answer.substr(6).c_str());
      cr_assert(is_at_end(client.borrow()));
    }
    const auto dawdler = connect_tcp(port);
    send_all(dawdler.borrow(), hop_frame("pong").substr(0, 9));
    cr_assert(is_at_end(dawdler.borrow()));
    router.notify("unlisten", R"({"id":5})");
  });
}

Test(every_helper, announces_raw_connections_at_once_and_writes_nothing_to_them) {
  with_every_helper([&](ScriptedRouter& router, const Kind& kind) {
    const auto port = router.listen_port(kind.uri(0), R"("service":"web")", 5);
    const auto client = connect_tcp(port);
    const auto question = router.expect("accepted");
    cr_assert_eq(question.message->params["service"].string_or(""), "web");
    router.answer(question, deliver);
    auto delivery = router.expect("deliver");
    const auto service = delivery.take_fd();
    send_all(service.borrow(), "x");
    cr_assert_eq(receive_exactly(client.borrow(), 1), "x");
    const auto denied = connect_tcp(port);
    router.wire().refuse(router.expect("accepted"), {.word = Word::denied, .text = "no"});
    cr_assert(is_at_end(denied.borrow()));
    router.notify("unlisten", R"({"id":5})");
    cr_assert(eventually([&] { return router.listen(kind.uri(port)).word().empty(); }),
              "the port is free again");
    router.notify("unlisten", R"({"id":6})");
  });
}
