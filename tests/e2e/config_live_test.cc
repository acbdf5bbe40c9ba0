// What a configuration file changes in a running router: failover, reload, warm connections.
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;

Test(failover, goes_on_to_the_next_target) {
  kit::TcpServer server{kit::pong};
  const auto dead = std::to_string(kit::free_port());
  const auto alive = std::to_string(server.port());
  Host host{{}, "[routes]\npong = [\"tcp://127.0.0.1:" + dead + "\", \"tcp://127.0.0.1:" + alive + "\"]\n"};
  auto client = host.door();
  auto answer = client.call("connect", R"({"service":"pong","decision":true})");
  cr_assert(answer.take_fd());
  const auto steps = answer.result()["decision"]["steps"];
  bool failed_over = false;
  for (const auto step : steps) failed_over |= step["kind"].string_or("") == "failover";
  cr_assert(failed_over);
}

Test(reload, takes_the_new_file_whole_or_not_at_all) {
  Host host{{}, "rules = [\"deny out pong *\"]\n"};
  auto client = host.door();
  const auto params = ask("pong", "pong tcp://127.0.0.1:9");
  cr_assert_eq(client.call("connect", params).word(), "DENIED");
  host.write_config("rules = [\"nonsense\"]\n");
  auto refused = client.call("reload", "{}");
  cr_assert_eq(refused.word(), "BAD_REQUEST");
  cr_assert_gt(refused.message->error_data["errors"].size(), 0U);
  cr_assert_eq(client.call("connect", params).word(), "DENIED", "the old rules stay");
  host.write_config("rules = [\"allow out pong *\"]\n");
  auto reloaded = client.call("reload", "{}");
  cr_assert_eq(reloaded.result()["generation"].integer_or(0), 2);
  cr_assert_eq(client.call("connect", params).word(), "UNREACHABLE");
}

Test(reload, that_is_not_confirmed_is_rolled_back) {
  Host host{{}, "rules = [\"deny out pong *\"]\n"};
  auto client = host.door();
  host.write_config("rules = [\"allow out pong *\"]\n");
  client.call("reload", R"({"confirm":1})").result();
  const auto params = ask("pong", "pong tcp://127.0.0.1:9");
  cr_assert_eq(client.call("connect", params).word(), "UNREACHABLE");
  host.router().wait_for_error("was not confirmed");
  cr_assert(kit::eventually([&] { return client.call("connect", params).word() == "DENIED"; }));
}

Test(warm, route_hands_out_a_socket_that_was_connected_before) {
  kit::TcpServer server{kit::pong};
  Host host{
      {},
      "[routes]\npong = { target = \"tcp://127.0.0.1:" + std::to_string(server.port()) + "\", warm = 2 }\n"};
  auto client = host.door();
  cr_assert(kit::eventually([&] { return host.status().result()["warm"].integer_or(0) == 2; }));
  auto answer = client.call("connect", ask("pong"));
  const auto fd = answer.take_fd();
  kit::send_all(fd.borrow(), "ping\n");
  cr_assert_eq(kit::receive_exactly(fd.borrow(), 5), "pong\n");
  cr_assert(kit::eventually([&] { return host.status().result()["warm"].integer_or(0) == 2; }),
            "another is dialled in its place");
}

Test(warm, two_routes_to_one_place_and_one_that_is_filled_in_have_spares_of_their_own) {
  kit::TcpServer server{kit::pong};
  const auto place = "tcp://127.0.0.1:" + std::to_string(server.port());
  const auto route = [](const std::string& name, const std::string& target) {
    return name + " = { target = \"" + target + "\", warm = 1 }\n";
  };
  Host host{{}, "[routes]\n" + route("a", place) + route("b", place) + route("c", place + "/{service}")};
  cr_assert(kit::eventually([&] { return host.status().result()["warm"].integer_or(0) == 3; }));
}

Test(listen, goes_on_when_somebody_else_had_the_port_while_the_helper_was_away) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}, ""};
  const auto uri = host.uri("pong");
  sockaddr_in place{};
  place.sin_family = AF_INET;
  place.sin_port = htons(host.port());
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ipc::Fd squatter{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ::kill(host.helper("tcpd"), SIGKILL);
  cr_assert(kit::eventually([&] {
    return ::bind(squatter.borrow(), reinterpret_cast<const sockaddr*>(&place), sizeof place) == 0;
  }));
  host.router().wait_for_error("cannot listen on tcp://127.0.0.1");
  squatter = {};
  const Host near;
  auto client = near.door();
  const auto params = ask("pong", "pong " + uri);
  cr_assert(kit::eventually([&] { return client.call("connect", params).word() == "UNKNOWN_SERVICE"; }));
}

Test(loopback, is_what_the_unspecified_address_leads_to_and_is_judged_as) {
  const kit::TcpServer server{kit::pong};
  const Host host{{"--deny", "out", "*", "tcp:127.0.0.0/8", "--deny", "out", "*", "tcp:[::1]", "--allow",
                   "out", "*", "*"}};
  auto client = host.door();
  for (const auto* address : {"0.0.0.0", "[::]", "[::ffff:0.0.0.0]"}) {
    const auto uri = "tcp://" + std::string(address) + ":" + std::to_string(server.port());
    const auto answer = client.call("connect", R"({"uri":")" + uri + R"("})");
    cr_assert_eq(answer.word(), "DENIED", "%s", answer.text.c_str());
  }
}

Test(log, in_json_is_an_object_a_line_with_its_time) {
  Host host{{"--log-format", "json"}, ""};
  host.router().wait_for_error("{\"time\":\"20");
  host.router().wait_for_error("Z\",\"level\":\"info\",\"message\":\"ready in ");
}

Test(lookup_07, that_never_ends_is_closed_at_its_deadline) {
  Host host{{}, "[limits]\nrequest_timeout = \"300ms\"\n"};
  const auto socket = kit::connect_unix(host / "network");
  kit::send_all(socket.borrow(), std::string_view{"\x03\0\0", 3});
  cr_assert_eq(kit::receive_all(socket.borrow()), "");
}
