// Pure parts of the router: lookups taken apart, units read from cgroups, accounts, decisions as text.
#include <criterion/criterion.h>

#include "plumberd/accounts.hh"
#include "plumberd/decision.hh"
#include "plumberd/identity.hh"
#include "plumberd/lookup_door.hh"
#include "plumberd/resolver_share.hh"

using namespace plumberd;
using ipc::Framing;

Test(lookup, takes_name_and_directives_apart) {
  const auto lookup = parse_lookup("pong;pong tcp://127.0.0.1:9/pong", Framing::ipc07);
  cr_assert(lookup.has_value());
  cr_assert_eq(lookup->service, "pong");
  cr_assert_eq(lookup->networkd, "pong tcp://127.0.0.1:9/pong");
}

Test(lookup, without_a_separator_or_with_a_nul_is_refused) {
  cr_assert_not(parse_lookup("pong", Framing::ipc07));
  cr_assert_not(parse_lookup(std::string_view{"pong;pong\0x", 11}, Framing::ipc07));
}

Test(lookup, that_was_cut_loses_its_last_entry) {
  std::string value = "pong tcp://127.0.0.1:9/pong;other tcp://h/";
  std::string payload = "pong;" + value;
  payload.append(8191 - payload.size(), 'x');
  cr_assert_eq(parse_lookup(payload, Framing::ipc07)->networkd, "pong tcp://127.0.0.1:9/pong");
  payload += 'x';
  cr_assert_neq(parse_lookup(payload, Framing::ipc07)->networkd, "pong tcp://127.0.0.1:9/pong");
}

Test(lookup, of_v1_takes_the_last_entry_of_the_name) {
  const auto lookup = parse_lookup("a;a tcp://h/1;b x;a tcp://h/2; a tcp://h/3", Framing::ipc1);
  cr_assert_eq(lookup->networkd, "a tcp://h/2");
}

Test(identity, reads_system_units_from_the_unified_hierarchy) {
  const auto units = units_of("0::/system.slice/nginx.service\n");
  cr_assert_eq(units.system, "nginx.service");
  cr_assert_eq(units.user, "");
}

Test(identity, tells_user_units_from_the_manager_that_runs_them) {
  const auto units =
      units_of("1:name=systemd:/user.slice/user-1000.slice/user@1000.service/app.slice/mail.service\n");
  cr_assert_eq(units.system, "user@1000.service");
  cr_assert_eq(units.user, "mail.service");
}

Test(identity, takes_no_unit_from_below_another) {
  const auto delegated = units_of("0::/system.slice/bar.service/db.service\n");
  cr_assert_eq(delegated.system, "bar.service");
  const auto pretended = units_of("0::/system.slice/bar.service/user@0.service/app.slice/db.service\n");
  cr_assert_eq(pretended.system, "bar.service");
  cr_assert_eq(pretended.user, "");
  const auto own =
      units_of("0::/user.slice/user-7.slice/user@7.service/app.slice/a.slice/b.service/c.service\n");
  cr_assert_eq(own.user, "b.service");
  cr_assert_eq(units_of("0::/user.slice/user-7.slice/session-3.scope\n").system, "session-3.scope");
}

Test(identity, finds_no_unit_in_garbage) {
  for (const auto* text : {"", "\n", "0::/\n", "0::/user@\n", "xx", "0::/a/b/c\n"}) {
    cr_assert_eq(units_of(text).system, "");
    cr_assert_eq(units_of(text).user, "");
  }
}

Test(accounts, tally_counts_what_exists_by_name) {
  Tally tally;
  {
    const auto one = tally.add("pong"), two = tally.add("pong");
    const auto copy = two;
    cr_assert_eq(tally.of("pong"), 2U);
    cr_assert_eq(tally.of("other"), 0U);
  }
  cr_assert_eq(tally.of("pong"), 0U);
  auto last = std::make_unique<Tally>();
  const auto outlives = last->add("pong");
  last.reset();
}

Test(accounts, refuse_what_exceeds_the_limit_and_heal) {
  Accounts accounts;
  Limits limits;
  limits.connections = 2;
  {
    const auto one = accounts.open_connection(7, limits);
    const auto two = accounts.open_connection(7, limits);
    cr_assert(one && two);
    cr_assert_eq(accounts.open_connection(7, limits).error().word, ipc::Word::busy);
    cr_assert(accounts.open_connection(8, limits).has_value(), "another user is not affected");
  }
  cr_assert(accounts.open_connection(7, limits).has_value());
}

Test(accounts, forget_users_that_hold_nothing) {
  Accounts accounts;
  { const auto ticket = accounts.begin_request(7, {}, 0); }
  cr_assert_eq(accounts.users(), 0);
}

Test(accounts, rate_limits_say_when_to_retry_and_refill_with_time) {
  Accounts accounts;
  Limits limits;
  limits.requests_per_second = 2;
  cr_assert(accounts.begin_request(7, limits, 1000).has_value());
  cr_assert(accounts.begin_request(7, limits, 1000).has_value());
  const auto refused = accounts.begin_request(7, limits, 1000);
  cr_assert_eq(refused.error().word, ipc::Word::busy);
  cr_assert(refused.error().text.find("retry in 500 ms") != std::string::npos);
  cr_assert_eq(accounts.retry_after_ms(7, limits), 500);
  cr_assert(accounts.begin_request(7, limits, 1500).has_value());
}

Test(decision, is_one_line_of_fields_with_foreign_bytes_escaped) {
  Decision decision{.id = 3, .asked = "po\nng", .opened = "pong"};
  decision.verdict = Decision::Verdict::deny;
  decision.rule = "deny out * *";
  decision.rule_at = "f:1";
  const auto line = to_line(decision);
  cr_assert_eq(line.find('\n'), std::string::npos);
  cr_assert(line.starts_with("deny out service=po\\x0ang opened=pong"));
  cr_assert(line.find("rule=\"deny out * *\" at=f:1") != std::string::npos);
}

Test(decision, tells_what_a_remote_peer_proved) {
  const Decision decision{.direction = Direction::in,
                          .asked = "pong",
                          .opened = "pong",
                          .peer = "tls:192.0.2.1:4000",
                          .proved = {{"cert.names", "a.example b.example"}}};
  cr_assert_neq(to_json(decision).find(R"("proved":{"cert.names":"a.example b.example"})"),
                std::string::npos);
  cr_assert_neq(to_line(decision).find(" cert.names=\"a.example b.example\""), std::string::npos);
}

Test(decision, forges_no_field_from_a_text_that_a_client_chose) {
  const Decision decision{.asked = R"(x\" uid=0)", .opened = R"(x\" uid=0)"};
  cr_assert_neq(to_line(decision).find(R"(service="x\\\" uid=0")"), std::string::npos, "%s",
                to_line(decision).c_str());
}

Test(decision, hides_the_rule_of_a_denial_that_may_not_be_disclosed) {
  Decision decision{.opened = "pong"};
  decision.verdict = Decision::Verdict::deny;
  decision.rule = "deny out * *";
  cr_assert_eq(denial(decision, false).text.find("deny out"), std::string::npos);
  cr_assert(denial(decision, true).text.find("deny out * *") != std::string::npos);
}

Test(resolver_share, holds_a_users_further_names_until_one_of_its_places_is_free_and_nobody_elses) {
  ipc::Loop loop;
  ResolverShare share{loop};
  std::vector<ResolverShare::Place> held;
  for (auto place = share.take(7); place; place = share.take(7)) held.push_back(std::move(place));
  cr_assert_eq(held.size(), 16);
  cr_assert(share.take(8), "others have their own");
  int served = 0;
  const auto first = share.wait(7, [&](ResolverShare::Place place) {
    ++served;
    held.push_back(std::move(place));
  });
  auto dropped = share.wait(7, [](ResolverShare::Place) { cr_assert_fail("its request is gone"); });
  const auto third = share.wait(7, [&](ResolverShare::Place) { ++served; });
  dropped.reset();
  held.erase(held.begin(), held.begin() + 2);
  loop.run();
  cr_assert_eq(served, 2);
  held.clear();
}

Test(resolver_share, keeps_the_place_of_who_gave_up_as_long_as_a_resolver_may_wait) {
  ipc::Loop loop;
  ResolverShare share{loop};
  share.abandon(share.take(7));
  for (int i = 0; i < 15; ++i) share.abandon(share.take(7));
  cr_assert(!share.take(7));
  cr_assert(share.take(8));
}
