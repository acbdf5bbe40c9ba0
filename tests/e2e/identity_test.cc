// Who a client is decides what it gets: other users, their groups and programs, operators. These tests act as
// other users and need root.
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
constexpr unsigned alice = 4711;
constexpr unsigned bob = 4712;

bool cannot_become_others() { return ::geteuid() != 0; }

kit::Outcome plumb_as(unsigned uid, const Host& host, std::vector<std::string> words) {
  words.insert(words.begin(), {kit::binary("plumb"), "--rundir", host.rundir()});
  return kit::run({.args = std::move(words), .env = {"IPC_NETWORKD", "IPC_NETWORK"}, .uid = uid});
}

std::string routes_to(const kit::TcpServer& server) {
  return "[routes]\npong = \"tcp://127.0.0.1:" + std::to_string(server.port()) + "\"\n";
}
}  // namespace

Test(identity, other_users_get_nothing_by_default) {
  if (cannot_become_others()) cr_skip("needs root");
  kit::TcpServer server{kit::pong};
  Host host{{}, routes_to(server)};
  host.open_to_all();
  const auto outcome = plumb_as(alice, host, {"connect", "pong"});
  cr_assert_eq(outcome.status, 1, "%s", outcome.error.c_str());
  cr_assert(outcome.error.find("DENIED") != std::string::npos, "%s", outcome.error.c_str());
}

Test(identity, rule_for_a_user_admits_that_user_only) {
  if (cannot_become_others()) cr_skip("needs root");
  kit::TcpServer server{kit::pong};
  Host host{{"--allow", "out", "pong", "user:4711"}, routes_to(server)};
  host.open_to_all();
  cr_assert_eq(plumb_as(alice, host, {"connect", "pong"}).status, 0);
  cr_assert_eq(plumb_as(bob, host, {"connect", "pong"}).status, 1);
}

Test(identity, rule_for_a_program_admits_that_program_only) {
  if (cannot_become_others()) cr_skip("needs root");
  kit::TcpServer server{kit::pong};
  char path[4096];
  const auto binary = kit::binary("plumb");
  cr_assert(::realpath(binary.c_str(), path));
  Host host{{"--allow", "out", "pong", "exe:" + std::string(path)}, routes_to(server)};
  host.open_to_all();
  cr_assert_eq(plumb_as(alice, host, {"connect", "pong"}).status, 0);
  auto other_program = kit::run({.args = {"python3", "-c",
                                          "import socket,sys\n"
                                          "s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
                                          "s.connect(sys.argv[1])\n"
                                          "s.send(b'{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"connect\","
                                          "\"params\":{\"service\":\"pong\"}}')\n"
                                          "print(s.recv(65536).decode())",
                                          host / "plumberd"},
                                 .uid = alice});
  cr_assert(other_program.output.find("\"DENIED\"") != std::string::npos, "%s%s",
            other_program.output.c_str(), other_program.error.c_str());
}

Test(identity, program_that_has_ended_is_unknown_to_rules_whoever_holds_its_connection) {
  if (cannot_become_others()) cr_skip("needs root");
  kit::TcpServer server{kit::pong};
  // A process connects and ends; only then its child, the same program, asks over the connection.
  constexpr const char* script = R"(
import os, socket, sys
told, tell = os.pipe()
first = os.fork()
if first == 0:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    if os.fork() != 0: os._exit(0)
    os.close(tell)
    os.read(told, 1)
    s.send(b'{"jsonrpc":"2.0","id":1,"method":"connect","params":{"service":"pong"}}')
    os.write(2, s.recv(65536))
    os._exit(0)
os.waitpid(first, 0)
os.write(tell, b"x")
)";
  char path[4096];
  cr_assert(::realpath("/usr/bin/python3", path));
  for (const auto& rule : {std::vector<std::string>{"--allow", "out", "pong", "exe:" + std::string(path)},
                           std::vector<std::string>{"--deny", "out", "pong", "exe:/usr/bin/other", "--allow",
                                                    "out", "pong", "*"}}) {
    Host host{rule, routes_to(server)};
    host.open_to_all();
    const kit::Process asks{{.args = {"python3", "-c", script, host / "plumberd"}, .uid = alice}};
    cr_assert(kit::eventually([&] { return asks.error().find('}') != std::string::npos; }));
    cr_assert_neq(asks.error().find("\"DENIED\""), std::string::npos, "%s", asks.error().c_str());
  }
}

Test(identity, check_says_where_executables_of_others_cannot_be_read) {
  if (cannot_become_others()) cr_skip("needs root");
  const auto check = [](unsigned uid) {
    return kit::run({.args = {kit::binary("plumberd"), "--config", "/dev/null", "--allow", "out", "a", "*",
                              "--allow", "out", "pong", "exe:/usr/bin/nc", "--check"},
                     .uid = uid});
  };
  const auto checked = check(alice);
  cr_assert_eq(checked.status, 0);
  cr_assert(checked.error.starts_with("command line:2: warning: exe: of other users' processes"), "%s",
            checked.error.c_str());
}

Test(identity, other_users_may_not_offer_a_name_unless_a_rule_says_so) {
  if (cannot_become_others()) cr_skip("needs root");
  Host host{{"--allow", "serve", "mail", "user:4711"}};
  host.open_to_all();
  cr_assert_eq(plumb_as(bob, host, {"serve", "mail", "--", "true"}).status, 1);
  kit::Process serving{kit::Command{
      .args = {kit::binary("plumb"), "--rundir", host.rundir(), "serve", "mail", "--", "cat"}, .uid = alice}};
  kit::wait_for_socket(host / "mail");
}

Test(identity, socket_that_another_user_bound_is_not_taken_for_the_service) {
  if (cannot_become_others()) cr_skip("needs root");
  Host host;
  host.open_to_all();
  kit::Process impostor{kit::Command{.args = {"python3", "-c",
                                              "import "
                                              "socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv["
                                              "1])\ns.listen()\nprint('bound',flush=True)\ns.accept()",
                                              host / "bank"},
                                     .uid = bob}};
  impostor.wait_for_output("bound");
  auto client = host.door();
  auto answer = client.call("connect", R"({"service":"bank","decision":true})");
  cr_assert_eq(answer.word(), "DENIED");
  cr_assert_eq(answer.message->error_data["decision"]["direction"].string_or(""), "serve");
}

Test(identity, operators_are_root_the_routers_user_and_admins) {
  if (cannot_become_others()) cr_skip("needs root");
  Host host{{}, "[admin]\nusers = [\"daemon\"]\n"};
  host.open_to_all();
  cr_assert_eq(plumb_as(alice, host, {"status"}).status, 1);
  cr_assert_eq(plumb_as(1, host, {"status"}).status, 0, "daemon is an admin");
  cr_assert_eq(plumb_as(alice, host, {"reload"}).status, 1);
  cr_assert_eq(plumb_as(alice, host, {"explain", "pong", "--as", "user:root"}).status, 1);
}

Test(identity, everybody_sees_own_events_and_nobody_elses) {
  if (cannot_become_others()) cr_skip("needs root");
  Host host;
  host.open_to_all();
  plumb_as(alice, host, {"connect", "hers"});
  plumb_as(bob, host, {"connect", "his"});
  const auto seen = plumb_as(alice, host, {"--json", "events"});
  cr_assert(seen.output.find("hers") != std::string::npos, "%s%s", seen.output.c_str(), seen.error.c_str());
  cr_assert_eq(seen.output.find("\"his\""), std::string::npos);
}

Test(identity, word_only_hides_the_rule_from_those_it_denies) {
  if (cannot_become_others()) cr_skip("needs root");
  Host host{{},
            "rules = [\"deny out secret *\"]\n[defaults]\ndenied_detail = \"word\"\n[routes]\nsecret = "
            "\"tcp://127.0.0.1:9\"\n"};
  host.open_to_all();
  const auto hidden = plumb_as(alice, host, {"connect", "secret"});
  cr_assert_eq(hidden.status, 1);
  cr_assert_eq(hidden.error.find("deny out"), std::string::npos, "%s", hidden.error.c_str());
  const auto shown = plumb_as(0, host, {"connect", "secret"});
  cr_assert(shown.error.find("deny out secret *") != std::string::npos, "%s", shown.error.c_str());
}
