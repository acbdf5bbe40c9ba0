// What one client may cost the others: nothing that they would notice. Some of these tests act as other users
// and need root.
#include <criterion/criterion.h>
#include <unistd.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;

namespace {
constexpr unsigned alice = 4711;

std::string limit(std::string_view key, int value) {
  return "[limits]\n" + std::string(key) + " = " + std::to_string(value) + "\n";
}

std::string explain(int id) {
  return ipc::rpc::request(std::to_string(id), "explain", R"({"uri":"tcp://192.0.2.9:1"})");
}

/// Rules that explain has to look at one by one: they are for any service, and two selectors keep them from
/// matching.
std::string rules_that_take_long(int count) {
  std::string rules = "rules = [\n";
  for (int i = 0; i < count; ++i)
    rules += "\"deny out * group:4713,user:4713,tcp:host" + std::to_string(i) + ".example.com\",\n";
  return rules + "]\n";
}

/// Answers that lie there unread.
std::size_t read_all(kit::Wire& wire) {
  std::size_t count = 0;
  while (kit::is_readable(wire.borrow(), kit::Milliseconds{0})) {
    cr_assert(wire.receive().message.has_value());
    ++count;
  }
  return count;
}
}  // namespace

Test(limits, tell_a_client_in_a_hurry_when_to_come_back) {
  Host host{{}, limit("requests_per_second", 1)};
  auto client = host.door();
  client.call("connect", ask("nobody"));
  auto refused = client.call("connect", ask("nobody"));
  cr_assert_eq(refused.word(), "BUSY");
  cr_assert_gt(refused.message->error_data["retry_after_ms"].integer_or(0), 0);
}

Test(limits, count_questions_about_the_router_as_they_count_connections) {
  if (::geteuid() != 0) cr_skip("needs root");
  for (const auto* method : {"explain", "list", "events"}) {
    const Host host{{}, limit("requests_per_second", 1)};
    auto client = host.door_as(alice);
    const auto params = ask("nobody");
    for (int i = 0; i < 1'000; ++i) {
      const auto answer = client.call(method, params);
      if (answer.word() != "BUSY") continue;
      cr_assert_gt(answer.message->error_data["retry_after_ms"].integer_or(0), 0);
      break;
    }
    const auto refused = client.call("connect", params);
    cr_assert_eq(refused.word(), "BUSY", "%s: %s", method, refused.text.c_str());
  }
}

Test(limits, do_not_keep_operators_from_looking) {
  const Host host{{}, limit("requests_per_second", 1)};
  auto root = host.door();
  for (int i = 0; i < 20; ++i)
    for (const auto* method : {"explain", "list", "status", "rules"})
      cr_assert_neq(root.call(method, ask("nobody")).word(), "BUSY");
}

Test(limits, questions_under_way_count_as_pending_requests) {
  if (::geteuid() != 0) cr_skip("needs root");
  const Host host{{}, rules_that_take_long(20'000) + limit("pending_requests", 4)};
  auto client = host.door_as(alice);
  for (int i = 0; i < 200; ++i) client.send(explain(i));
  int busy = 0;
  for (int i = 0; i < 200; ++i) busy += client.receive().word() == "BUSY" ? 1 : 0;
  cr_assert_gt(busy, 0);
  cr_assert_lt(busy, 200);
  cr_assert_neq(client.call("explain", ask("nobody")).word(), "BUSY", "they heal");
}

Test(limits, client_that_asks_and_asks_does_not_keep_others_from_dialling) {
  if (::geteuid() != 0) cr_skip("needs root");
  constexpr int sessions = 16, questions = 2, dials = 20;
  kit::TcpServer server{kit::pong};
  const Host host{{}, rules_that_take_long(80'000)};
  const auto dial = R"({"uri":"tcp://127.0.0.1:)" + std::to_string(server.port()) + R"("})";
  auto root = host.door();
  cr_assert(root.call("connect", dial).take_fd());
  std::vector<kit::Wire> spam;
  for (int i = 0; i < sessions; ++i) spam.push_back(host.door_as(alice));
  for (int i = 0; i < questions; ++i)
    for (auto& wire : spam) wire.send(explain(i));
  for (int i = 0; i < dials; ++i) cr_assert(root.call("connect", dial).take_fd());
  std::size_t answered = 0;
  for (auto& wire : spam) answered += read_all(wire);
  cr_assert_lt(answered, std::size_t{sessions * questions}, "the dials had to wait for all of it");
}

Test(limits, questions_that_wait_are_bounded_by_user) {
  if (::geteuid() != 0) cr_skip("needs root");
  constexpr int more_than_wait = 200;
  const Host host{{}, rules_that_take_long(20'000)};
  auto client = host.door_as(alice);
  for (int i = 0; i < more_than_wait; ++i) client.send(explain(i));
  int refused = 0;
  for (int i = 0; i < more_than_wait; ++i) refused += client.receive().word() == "BUSY" ? 1 : 0;
  cr_assert_gt(refused, 0);
  cr_assert_lt(refused, more_than_wait - 31, "32 wait");
}

namespace {
void expect_bounded_relays(const std::string& scheme) {
  const auto place = scheme + "://127.0.0.1:";
  const Host far{{"--listen", place + "0", "--allow", "in", "*", scheme + ":127.0.0.1"},
                 limit("connections", 3)},
      near;
  const auto pong = kit::listen_unix(far / "pong"), other = kit::listen_unix(far / "other");
  auto client = near.door();
  const auto dial = [&](const std::string& service) {
    const auto uri = place + std::to_string(far.port()) + "/" + service;
    return client.call("connect", ask(service, service + " " + uri));
  };
  std::vector<ipc::Fd> held;
  for (int i = 0; i < 3; ++i) held.push_back(dial("pong").take_fd());
  const auto refused = dial("pong");
  cr_assert_eq(refused.word(), "BUSY", "%s", refused.text.c_str());
  cr_assert(refused.message->failure.far);
  cr_assert(dial("other").take_fd(), "another service has its own");
  held.pop_back();
  for (int i = 0; i < 3; ++i) cr_assert(kit::accept_from(pong));
  cr_assert(kit::eventually([&] { return dial("pong").word().empty(); }));
}
}  // namespace

Test(limits, relays_to_one_service_are_bounded_and_its_end_makes_room) {
  for (const auto* scheme : {"tcp", "udp"}) expect_bounded_relays(scheme);
}

Test(limits, relays_to_one_service_are_bounded_however_many_peers_come_at_once) {
  constexpr int peers = 40;
  const Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "*", "tcp:127.0.0.1"},
                 limit("connections", 3)};
  const Host near;
  const auto pong = kit::listen_unix(far / "pong");
  auto client = near.door();
  for (int i = 0; i < peers; ++i)
    client.send(
        ipc::rpc::request(std::to_string(1000 + i), "connect", ask("pong", "pong " + far.uri("pong"))));
  int busy = 0;
  for (int i = 0; i < peers; ++i) busy += client.receive().word() == "BUSY" ? 1 : 0;
  cr_assert_geq(busy, peers - 3);
}

Test(limits, connections_of_other_hosts_under_way_are_bounded_by_service) {
  kit::TcpServer silent{[](int socket) { kit::receive_all(socket); }};
  const auto place = "tcp://127.0.0.1:" + std::to_string(silent.port());
  Host far{{"--allow", "in", "*", "tcp:127.0.0.1", "--allow", "out", "*", "tcp:127.0.0.1"},
           "[routes]\nslow = \"" + place + "/slow\"\nother = \"" + place +
               "/other\"\n[[listen]]\nuri = \"tcp://127.0.0.1:0\"\ntransit = true\n" +
               limit("pending_requests", 2)};
  const Host near;
  auto client = near.door();
  for (int i = 0; i < 2; ++i)
    client.send(
        ipc::rpc::request(std::to_string(1000 + i), "connect", ask("slow", "slow " + far.uri("slow"))));
  cr_assert(kit::eventually([&] { return silent.connections() == 2; }), "%s", far.router().error().c_str());
  const auto refused = client.call("connect", ask("slow", "slow " + far.uri("slow")));
  cr_assert_eq(refused.word(), "BUSY", "%s", refused.text.c_str());
  client.send(ipc::rpc::request("2000", "connect", ask("other", "other " + far.uri("other"))));
  cr_assert(kit::eventually([&] { return silent.connections() == 3; }), "another service has its own");
}

Test(limits, busy_service_is_told_with_a_time_to_come_back) {
  const Host host;
  kit::Offer idle{host, "pong"};
  auto client = host.door();
  kit::Wire::Datagram refused;
  cr_assert(kit::eventually([&] {
    refused = client.call("connect", ask("pong"));
    return !refused.word().empty();
  }));
  cr_assert_eq(refused.word(), "BUSY", "%s", refused.text.c_str());
  cr_assert_gt(refused.message->error_data["retry_after_ms"].integer_or(0), 0);
}

Test(limits, followers_of_events_are_bounded_by_user_and_a_reload_can_end_what_they_see) {
  if (::geteuid() != 0) cr_skip("needs root");
  const std::string admin = "[admin]\nusers = [\"4711\"]\n";
  const Host host{{}, admin};
  host.open_to_all();
  std::vector<kit::Wire> following;
  for (int i = 0; i < 16; ++i) {
    following.push_back(host.door_as(alice));
    cr_assert_eq(following.back().call("events", "{}").word(), "");
  }
  cr_assert_eq(host.door_as(alice).call("events", "{}").word(), "BUSY");
  auto root = host.door();
  root.call("connect", ask("nobody"));
  cr_assert_eq(following[0].receive().message->method, "event", "an admin sees everybody's");
  host.write_config("");
  cr_assert_eq(root.call("reload", "{}").word(), "");
  root.call("connect", ask("nobody"));
  cr_assert(!kit::is_readable(following[0].borrow(), kit::Milliseconds{50}));
}

Test(limits, offers_cost_a_token_like_any_request) {
  if (::geteuid() != 0) cr_skip("needs root");
  const Host host{{}, limit("requests_per_second", 2)};
  host.open_to_all();
  auto door = host.door_as(alice);
  for (int i = 0; i < 2; ++i) cr_assert_eq(door.call("serve", R"({"service":"pong"})").word(), "DENIED");
  cr_assert_eq(door.call("serve", R"({"service":"pong"})").word(), "BUSY");
}
