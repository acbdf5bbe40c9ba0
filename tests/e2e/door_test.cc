// Clients against a scripted router: the far side of the door is spoken raw by the test.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "ipc/client.hh"
#include "tests/e2e/scripted.hh"

using namespace std::chrono_literals;
using ipc::Word;
using kit::hand_over, kit::Scripted, kit::take_over;

Test(client, gets_the_socket_its_path_and_its_labels_and_keeps_nothing_else) {
  const Scripted scripted;
  const auto before = kit::open_fds();
  std::string params;
  {
    std::jthread router{[&] {
      auto wire = scripted.accept();
      kit::send_all(take_over(wire, &params).borrow(), "hello");
    }};
    const auto connection = kit::must(ipc::connect("pong", {.labels = {{"trace", "x"}}}));
    router.join();
    cr_assert_eq(connection.path, "direct");
    cr_assert_eq(connection.labels.at("peer.port"), "9");
    cr_assert_eq(::fcntl(connection.fd.borrow(), F_GETFD), FD_CLOEXEC);
    cr_assert_eq(::fcntl(connection.fd.borrow(), F_GETFL) & O_NONBLOCK, 0);
    cr_assert_eq(kit::receive_all(connection.fd.borrow()), "hello");
  }
  cr_assert_eq(params, R"({"service":"pong","labels":{"trace":"x"}})");
  cr_assert_eq(kit::open_fds(), before);
}

Test(client, sends_only_the_directives_of_the_service_it_asks_for) {
  const Scripted scripted;
  ::setenv("IPC_NETWORK", "pong tcp://wrong", 1);
  ::setenv("IPC_NETWORKD", "db tls://me:secret@h/db; pong tcp://h/pong ;ponga b", 1);
  std::string params;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    hand_over(wire, &params);
  }};
  kit::must(ipc::connect("pong"));
  router.join();
  cr_assert_eq(params, R"({"service":"pong","networkd":"pong tcp://h/pong"})");
}

Test(client, reads_ipc_network_where_ipc_networkd_is_unset) {
  const Scripted scripted;
  ::setenv("IPC_NETWORK", "pong tcp://h/pong", 1);
  std::string params;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    hand_over(wire, &params);
  }};
  kit::must(ipc::connect("pong"));
  router.join();
  cr_assert_eq(params, R"({"service":"pong","networkd":"pong tcp://h/pong"})");
}

Test(client, with_ipc_networkd_set_even_empty_never_goes_around_the_router) {
  const Scripted scripted{false};
  const auto service = kit::listen_unix(scripted.dir / "pong");
  for (const char* value : {"", "pong tcp://127.0.0.1:1", "other x"}) {
    ::setenv("IPC_NETWORKD", value, 1);
    const auto refused = ipc::connect("pong");
    cr_assert_eq(refused.error().word, Word::no_router);
    cr_assert_eq(ipc::errno_of(refused.error().word), ECONNREFUSED);
  }
  cr_assert_not(kit::is_readable(service.borrow(), 0ms));
}

Test(client, without_ipc_networkd_and_without_a_router_goes_straight_to_the_service) {
  const Scripted scripted{false};
  const auto service = kit::listen_unix(scripted.dir / "pong");
  const auto connection = kit::must(ipc::connect("pong"));
  kit::send_all(kit::accept_from(service).borrow(), "hello");
  cr_assert_eq(kit::receive_all(connection.fd.borrow()), "hello");
  cr_assert_eq(ipc::connect("nobody").error().word, Word::no_router);
}

Test(client, does_not_go_around_a_router_that_refuses_or_hangs_up) {
  const Scripted scripted;
  const auto service = kit::listen_unix(scripted.dir / "pong");
  std::jthread router{[&] {
    auto refusing = scripted.accept();
    refusing.refuse(refusing.receive(),
                    {.word = Word::denied, .text = "no", .rule = "deny out * *", .at = "x:1"});
    scripted.accept().receive();
  }};
  const auto refused = ipc::connect("pong");
  cr_assert_eq(refused.error().word, Word::denied);
  cr_assert_eq(refused.error().rule, "deny out * *");
  cr_assert_eq(ipc::connect("pong").error().word, Word::no_router);
  cr_assert_not(kit::is_readable(service.borrow(), 0ms));
}

Test(client, names_and_directives_that_are_none_do_not_leave_the_process) {
  const Scripted scripted;
  for (const char* name : {"", "..", "a/b", "plumberd", "network", "-x", "a b"})
    cr_assert_eq(ipc::connect(name).error().word, Word::bad_request, "%s", name);
  ::setenv("IPC_NETWORKD", "pong", 1);
  cr_assert_eq(ipc::connect("pong").error().word, Word::bad_request);
  cr_assert_not(kit::is_readable(scripted.listener.borrow(), 0ms));
}

Test(client, a_silent_router_costs_a_timeout_and_its_late_answer_is_dropped) {
  const Scripted scripted;
  ipc::Client client;
  const auto before = kit::open_fds();
  cr_assert_eq(client.connect("pong", {.timeout = 20ms}).error().word, Word::timeout);
  auto wire = scripted.accept();
  const auto late = take_over(wire);
  std::jthread router{[&] { kit::send_all(take_over(wire).borrow(), "second"); }};
  {
    const auto second = kit::must(client.connect("pong"));
    cr_assert_eq(kit::receive_all(second.fd.borrow()), "second");
  }
  cr_assert_eq(kit::receive_all(late.borrow()), "");
  cr_assert_eq(kit::open_fds(), before + 3);  // the kept door, its other end here, and `late`
}

Test(client, kept_connections_are_used_again_and_opened_again_once) {
  Scripted scripted;
  ipc::Client client;
  std::jthread first{[&] {
    auto wire = scripted.accept();
    hand_over(wire);
    hand_over(wire);
  }};
  kit::must(client.connect("pong"));
  kit::must(client.connect_uri("tcp://127.0.0.1:9"));
  first.join();
  scripted.vanish();
  scripted.open();
  std::jthread second{[&] {
    auto wire = scripted.accept();
    hand_over(wire);
  }};
  kit::must(client.connect("pong"));
  second.join();
  scripted.vanish();
  cr_assert_eq(client.connect("pong").error().word, Word::no_router);
}

Test(client, a_child_does_not_speak_on_its_parents_connection) {
  const Scripted scripted;
  ipc::Client client;
  std::jthread router{[&] {
    auto parent = scripted.accept();
    hand_over(parent);
    auto child = scripted.accept();
    hand_over(child);
  }};
  kit::must(client.connect("pong"));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(client.connect("pong") ? 0 : 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  cr_assert_eq(status, 0);
}

Test(client, a_door_of_a_stranger_is_not_trusted) {
  if (::geteuid() != 0) cr_skip_test("needs root");
  constexpr unsigned stranger = 65'533;
  const Scripted scripted{false};
  ::chmod(scripted.dir.path().c_str(), 0777);
  const auto script = "import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET); s.bind('" +
                      (scripted.dir / "plumberd") +
                      "'); s.listen(); print('up',flush=True); s.accept()[0].recv(9)";
  const kit::Process impostor{kit::Command{.args = {"python3", "-c", script}, .uid = stranger}};
  impostor.wait_for_output("up");
  const auto service = kit::listen_unix(scripted.dir / "pong");
  const auto refused = ipc::connect("pong");
  cr_assert_eq(refused.error().word, Word::auth);
  cr_assert(refused.error().text.find("65533") != std::string::npos);
}

Test(client, a_router_that_lies_is_an_error_and_leaks_nothing) {
  const Scripted scripted;
  const auto before = kit::open_fds();
  const auto pipes = kit::must(ipc::socket_pair(SOCK_STREAM));
  const int raw = pipes.first.borrow();
  const std::vector<int> sixteen(16, raw);
  const std::pair<std::string, std::vector<int>> lies[] = {
      {R"({"jsonrpc":"2.0","id":1,"result":{"fd":0,"path":"direct"}})", {}},
      {R"({"jsonrpc":"2.0","id":1,"result":{"fd":1,"path":"direct"}})", {raw}},
      {R"({"jsonrpc":"2.0","id":1,"result":{"fd":-1}})", {raw}},
      {R"({"jsonrpc":"2.0","id":1,"result":{}})", sixteen},
      {R"({"jsonrpc":"2.0","id":1,"result":7})", {raw}},
      {R"({"jsonrpc":"2.0","id":1})", {raw}},
      {"garbage", sixteen},
      {std::string(60'000, '['), {}},
      {R"({"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"what?","data":{"code":"NO_SUCH_WORD"}}})",
       {raw}}};
  for (const auto& [text, fds] : lies) {
    ipc::Client client;
    std::jthread router{[&] {
      auto wire = scripted.accept();
      wire.receive();
      wire.send(text, fds);
    }};
    cr_assert_not(client.connect("pong", {.timeout = 10s}), "%s", text.substr(0, 80).c_str());
  }
  cr_assert_eq(kit::open_fds(), before + 2);
}

Test(client, answers_for_others_and_notifications_do_not_confuse_it) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    const auto request = wire.receive();
    wire.notify("accepted", R"({"fd":0})", {});
    wire.send(R"({"jsonrpc":"2.0","id":999,"result":{"fd":0}})");
    wire.send(R"({"jsonrpc":"2.0","id":"1","result":{"fd":0}})");
    wire.send(R"({"jsonrpc":"2.0","id":"x","method":"surprise"})");
    wire.refuse(request, {Word::busy, "later"});
  }};
  cr_assert_eq(ipc::connect("pong").error().word, Word::busy);
}

Test(client, a_directive_too_large_for_a_message_is_refused_at_home) {
  const Scripted scripted;
  const auto refused = ipc::connect("pong", {.networkd = "pong tcp://h/" + std::string(1 << 20, 'x')});
  cr_assert_eq(refused.error().word, Word::bad_request);
  std::string many = "pong tcp://h/pong";
  for (int i = 0; i < 50'000; ++i) many += ";other" + std::to_string(i) + " tcp://h/x";
  std::jthread router{[&] {
    auto nothing = scripted.accept();  // of the first try
    auto wire = scripted.accept();
    hand_over(wire);
  }};
  kit::must(ipc::connect("pong", {.networkd = many}));
}
