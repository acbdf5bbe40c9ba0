// Reloads, signals and helpers that die, in any order.
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/hostile.hh"

using namespace std::chrono_literals;
using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
std::size_t times(const std::string& text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::string listener(const std::string& uri) { return "[[listen]]\nuri = \"" + uri + "\"\n"; }
}  // namespace

Test(hostile_reload, a_storm_of_hangups_leaves_a_router_that_answers) {
  Host host{{}, "rules = [\"deny out secret *\"]\n"};
  const auto before = kit::warmed_up(host);
  for (int i = 0; i < 500; ++i) host.router().signal(SIGHUP);
  host.router().wait_for_error("reload: generation ");
  auto door = host.door();
  cr_assert(kit::eventually([&] { return door.call("reload", "{}").word().empty(); }));
  door.close();
  kit::expect_well(host, before);
}

Test(hostile_reload, many_at_once_are_done_one_after_the_other_or_told_to_wait) {
  Host host{{}, "rules = [\"deny out secret *\"]\n"};
  std::vector<kit::Wire> operators;
  for (int i = 0; i < 40; ++i) operators.push_back(host.door());
  for (auto& one : operators) one.send(ipc::rpc::request("1", "reload", "{}"));
  operators[39].close();  // does not wait for its answer
  std::int64_t last = 0;
  for (std::size_t i = 0; i < 39; ++i) {
    const auto answer = operators[i].receive();
    cr_assert(answer.word().empty() || answer.word() == "BUSY", "%s", answer.text.c_str());
    if (answer.word().empty()) last = std::max(last, answer.result()["generation"].integer_or(0));
  }
  cr_assert_gt(last, 1);
}

Test(hostile_reload, that_changes_the_helper_of_a_listener_moves_the_listener) {
  const auto port = std::to_string(kit::free_port());
  const auto listen = listener("tcp://127.0.0.1:" + port);
  Host host{{"--allow", "in", "pong", "tcp:127.0.0.1"}, listen};
  Offer offer{host, "pong"};
  const pid_t old = host.helper("tcpd");
  for (int round = 0; round < 3; ++round) {
    const auto exec = kit::binary("tcpd");
    host.write_config(listen + "[helpers.tcpd]\nexec = [\"" + exec +
                      "\"]\nschemes = [\"tcp\"]\nenvironment = { ROUND = \"" + std::to_string(round) +
                      "\" }\n");
    auto door = host.door();
    const auto answer = door.call("reload", "{}");
    cr_assert_eq(answer.word(), "", "%s", answer.text.c_str());
    const auto client = door.call("connect", ask("pong", "pong tcp://127.0.0.1:" + port + "/pong")).take_fd();
    const auto accepted = offer.accept();
    kit::expect_joined(client.borrow(), accepted.first.borrow());
  }
  cr_assert_neq(host.helper("tcpd"), old);
}

Test(hostile_reload, to_a_helper_that_dies_is_refused_and_everything_stays) {
  const auto listen = listener("tcp://127.0.0.1:0");
  Host host{{"--allow", "in", "pong", "tcp:127.0.0.1"}, listen};
  Offer offer{host, "pong"};
  const auto uri = host.uri("pong");
  host.write_config(listen + listener("bad://x:1/y") +
                    "[helpers.bad]\nexec = [\"/bin/false\"]\nschemes = [\"bad\"]\n");
  auto door = host.door();
  cr_assert_eq(door.call("reload", "{}").word(), "BAD_REQUEST");
  const auto client = door.call("connect", ask("pong", "pong " + uri)).take_fd();
  const auto accepted = offer.accept();
  kit::expect_joined(client.borrow(), accepted.first.borrow());
}

Test(hostile_helper, that_dies_again_and_again_is_started_less_and_less_often) {
  Host host{
      {},
      "[helpers.bad]\nexec = [\"/bin/false\"]\nschemes = [\"bad\"]\n[limits]\nrequest_timeout = \"1s\"\n"};
  auto door = host.door();
  const kit::Deadline end{3s};
  int asked = 0;
  while (!end.passed() && ++asked < 100'000) {
    const auto answer = door.call("connect", R"({"uri":"bad://x:1/y"})");
    cr_assert(answer.word() == "NO_HELPER", "%s", answer.text.c_str());
  }
  cr_assert_leq(times(host.router().error(), "error: helper bad "), 8U, "%s", host.router().error().c_str());
  const double cpu = kit::cpu_while(host.router().pid(), 500ms);
  cr_assert_lt(cpu, 50.0, "%.1f ms of CPU in 500", cpu);
}

Test(hostile_helper, that_never_says_hello_holds_no_request_beyond_its_time) {
  Host host{{},
            "[helpers.mute]\nexec = [\"/bin/sleep\", \"8\"]\nschemes = "
            "[\"mute\"]\n[limits]\nrequest_timeout = \"500ms\"\n"};
  auto door = host.door();
  const kit::Deadline soon{3s};
  cr_assert_eq(door.call("connect", R"({"uri":"mute://x:1/y"})").word(), "NO_HELPER");
  cr_assert(!soon.passed());
}

Test(hostile_helper, killed_with_many_dials_under_way_fails_each_of_them_once) {
  Host host;
  const auto before = kit::warmed_up(host);
  {
    const kit::TcpServer silent{kit::silent};
    const auto wish = "far tcp://127.0.0.1:" + std::to_string(silent.port()) + "/far";
    auto door = host.door();
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 100; ++i)
        door.send(ipc::rpc::request(std::to_string(i), "connect", ask("far", wish)));
      cr_assert(kit::eventually([&] { return silent.connections() >= 100 * (round + 1); }));
      ::kill(host.helper("tcpd"), SIGKILL);
      for (int i = 0; i < 100; ++i) cr_assert_neq(door.receive().word(), "");
    }
  }
  cr_assert(kit::eventually([&] {
    const kit::TcpServer server{kit::pong};
    auto door = host.door();
    return door.call("connect", R"({"uri":"tcp://127.0.0.1:)" + std::to_string(server.port()) + R"("})")
        .word()
        .empty();
  }));
  kit::expect_well(host, before + 1);
}

Test(hostile_router, that_ends_in_the_middle_of_everything_ends_cleanly) {
  for (int round = 0; round < 10; ++round) {
    Host host{{"--listen", "tcp://127.0.0.1:0"}};
    const kit::TcpServer silent{kit::silent};
    const auto wish = "far tcp://127.0.0.1:" + std::to_string(silent.port()) + "/far";
    std::vector<kit::Wire> doors;
    for (int i = 0; i < 30; ++i) {
      doors.push_back(host.door());
      doors.back().send(ipc::rpc::request("1", "connect", ask("far", wish)));
      doors.back().send(ipc::rpc::request("2", i % 2 == 0 ? "events" : "reload", "{}"));
    }
    if (round % 2 == 0) doors.clear();
    cr_assert_eq(host.router().stop(), 0, "%s", host.router().error().c_str());
  }
}
