#include "ipc/connect.hh"

#include <criterion/criterion.h>

#include "ipc/resolve.hh"
#include "tests/e2e/kit.hh"

using namespace ipc;
using namespace std::chrono_literals;

namespace {
std::vector<Address> addresses(std::initializer_list<const char*> texts) {
  std::vector<Address> list;
  for (const char* text : texts) list.push_back(*parse_address(text));
  return list;
}

std::vector<Address> resolved(const char* uri) {
  return addresses_without_resolver(kit::must(parse_uri(uri)));
}

/// Runs until the connector has its answer.
Result<Connected> connect_to(Connector::Plan plan) {
  Loop loop;
  Connector connector{loop, std::move(plan)};
  std::optional<Result<Connected>> outcome;
  outcome = connector.start([&](Result<Connected> result) {
    outcome = std::move(result);
    loop.stop();
  });
  if (!outcome) loop.run();
  return std::move(*outcome);
}
}  // namespace

Test(connect, families_take_turns_beginning_with_the_preferred) {
  cr_assert(interleaved(addresses({"::1", "::2", "::3", "1.1.1.1", "2.2.2.2"})) ==
            addresses({"::1", "1.1.1.1", "::2", "2.2.2.2", "::3"}));
  cr_assert(interleaved(addresses({"1.1.1.1", "2.2.2.2", "::1"})) ==
            addresses({"1.1.1.1", "::1", "2.2.2.2"}));
  cr_assert(interleaved({}).empty());
}

Test(connect, literals_and_localhost_need_no_resolver) {
  cr_assert(resolved("tcp://10.1.2.3:4") == addresses({"10.1.2.3"}));
  cr_assert(resolved("tcp://[2001:db8::1]:4") == addresses({"2001:db8::1"}));
  cr_assert(resolved("tcp://localhost:4") == addresses({"127.0.0.1", "::1"}));
  cr_assert(resolved("tcp://db.localhost:4") == addresses({"127.0.0.1", "::1"}));
  cr_assert(resolved("tcp://localhost.example:4").empty());
}

Test(connect, loopback_is_connected_without_a_turn_of_the_loop) {
  const auto listener = kit::listen_tcp();
  Loop loop;
  Connector connector{loop, {addresses({"127.0.0.1"}), kit::port_of(listener.borrow()), {}, "here"}};
  const auto done = connector.start([](auto) { kit::give_up("called though the answer was there"); });
  cr_assert(done && done->has_value());
}

Test(connect, the_failure_told_is_that_of_the_address_preferred) {
  const auto outcome =
      connect_to({addresses({"127.0.0.1", "127.0.0.2"}), kit::free_port(), {}, "a.example:1"});
  cr_assert(outcome.error().word == Word::unreachable);
  cr_assert(outcome.error().text == "cannot connect to a.example:1 (127.0.0.1): Connection refused", "%s",
            outcome.error().text.c_str());
}

Test(connect, a_source_address_excludes_the_other_family) {
  const auto outcome = connect_to({addresses({"::1"}), 9, *parse_address("127.0.0.1"), "a.example:9"});
  cr_assert(outcome.error().text.find("::1") != std::string::npos);
}

Test(connect, nothing_is_left_open_when_a_connector_is_dropped) {
  Loop loop;
  const auto before = kit::open_fds();
  {
    // 192.0.2.0/24 (RFC 5737): either unreachable at once or silent.
    Connector connector{loop, {addresses({"192.0.2.1"}), 9, {}, "nowhere"}};
    const auto done = connector.start([](auto) {});
  }
  cr_assert_eq(kit::open_fds(), before);
}

Test(resolve, a_name_of_the_hosts_file_is_found_and_forgetting_is_safe) {
  Loop loop;
  std::optional<Result<std::vector<Address>>> found;
  Resolution forgotten{loop, "localhost", [](auto) { kit::give_up("forgotten, yet told"); }};
  forgotten = Resolution{};
  Resolution resolution{loop, "localhost",
                        [&](Result<std::vector<Address>> answer) { found = std::move(answer); }};
  loop.run();
  cr_assert(found && found->has_value());
  cr_assert_not((*found)->empty());
  cr_assert_eq(Resolution::under_way(), 0);
}
