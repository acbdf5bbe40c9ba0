// The verdict: first match, defaults, facts that are missing, addresses after resolution.
#include "plumberd/hidden.hh"
#include "tests/unit/policy_kit.hh"

using namespace plumberd;
using namespace plumberd::testing;
using enum Direction;

Test(judge, the_first_match_wins) {
  const Rules rules{"deny out pong user:1001", "allow out pong *", "deny out * *"};
  const Ask pong{out, "pong", "tcp", "10.0.0.1", 9000}, ping{out, "ping", "tcp", "10.0.0.1", 9000};
  cr_assert_eq(rules.judge(pong, client(1001)), "deny:1");
  cr_assert_eq(rules.judge(pong, client(1002)), "allow:2");
  cr_assert_eq(rules.judge(ping, client(0)), "deny:3");
}

Test(judge, own_admits_the_routers_user_and_root_only) {
  const Rules rules{};
  const Ask pong{local, "pong"};
  cr_assert_eq(rules.judge(pong, client(0)), "allow:default");
  cr_assert_eq(rules.judge(pong, client(1000)), "deny:default");
  cr_assert(judge(rules.set(), pong, client(1000)).reason == "default of local is own");
  const Ask inbound{in, "pong", "tcp", "", 9000};
  cr_assert_eq(rules.judge(inbound, remote()), "deny:default");
}

Test(judge, suffixes_cover_names_below_but_not_the_name) {
  const Rules rules{"allow local *.shop *", "deny local * *"};
  cr_assert_eq(rules.judge(Ask{local, "db.shop"}, client(1)), "allow:1");
  cr_assert_eq(rules.judge(Ask{local, "a.db.shop"}, client(1)), "allow:1");
  cr_assert_eq(rules.judge(Ask{local, "shop"}, client(1)), "deny:2");
  cr_assert_eq(rules.judge(Ask{local, "eshop"}, client(1)), "deny:2");
}

Test(judge, costly_facts_are_asked_for_only_when_a_rule_that_could_match_needs_them) {
  const Rules rules{"deny out other exe:/bin/bad", "deny out pong exe:/bin/bad,user:7", "allow out * *"};
  const Ask pong{out, "pong", "tcp", "10.0.0.1", 1};
  cr_assert_eq(rules.judge(pong, client(8)), "allow:3");
  cr_assert_eq(rules.judge(pong, client(7)), "need:exe:2");
  auto facts = client(7);
  know(facts, Fact::exe);
  facts.exe = "/bin/good";
  cr_assert_eq(rules.judge(pong, facts), "allow:3");
  facts.exe = "/bin/bad";
  cr_assert_eq(rules.judge(pong, facts), "deny:2");
}

Test(judge, what_cannot_be_known_satisfies_deny_and_never_allow_or_audit) {
  const Rules allows{"allow out * exe:/bin/x", "audit out * exe:/bin/x", "allow out * user:5"};
  const Rules denies{"deny out * exe:/bin/x", "allow out * *"};
  const Ask pong{out, "pong", "tcp", "10.0.0.1", 1};
  Facts nobody;
  know(nobody, Fact::exe);
  cr_assert_eq(allows.judge(pong, nobody), "deny:default");
  cr_assert_eq(denies.judge(pong, nobody), "deny:1");
  const Rules users{"deny out * user:5", "allow out * *"};
  cr_assert_eq(users.judge(pong, nobody), "deny:1");
}

Test(judge, users_that_do_not_exist_are_unknown_facts) {
  const Rules rules{"allow out a user:ghost", "deny out b user:ghost", "allow out * *"};
  cr_assert_eq(rules.judge(Ask{out, "a", "tcp", "10.0.0.1", 1}, client(5)), "allow:3");
  cr_assert_eq(rules.judge(Ask{out, "b", "tcp", "10.0.0.1", 1}, client(5)), "deny:2");
}

Test(judge, groups_are_all_groups_of_the_client) {
  const Rules rules{"allow local * group:100"};
  auto facts = client(5);
  cr_assert_eq(rules.judge(Ask{local, "x"}, facts), "need:groups:1");
  know(facts, Fact::groups);
  facts.groups = std::vector<gid_t>{5, 100, 200};
  cr_assert_eq(rules.judge(Ask{local, "x"}, facts), "allow:1");
  facts.groups = std::vector<gid_t>{5, 200};
  cr_assert_eq(rules.judge(Ask{local, "x"}, facts), "deny:default");
}

Test(judge, units_are_told_apart) {
  const Rules rules{"allow serve web unit:web.service", "allow serve web user-unit:web.service"};
  auto facts = client(5);
  cr_assert_eq(rules.judge(Ask{serve, "web"}, facts), "need:unit:1");
  know(facts, Fact::unit);
  facts.unit = "";
  cr_assert_eq(rules.judge(Ask{serve, "web"}, facts), "need:user_unit:2");
  know(facts, Fact::user_unit);
  facts.user_unit = "web.service";
  cr_assert_eq(rules.judge(Ask{serve, "web"}, facts), "allow:2");
}

Test(judge, remote_peers_are_no_users) {
  const Rules rules{"deny out * user:5", "deny out * exe:/bin/x", "allow out * *"};
  cr_assert_eq(rules.judge(Ask{out, "x", "tcp", "10.0.0.1", 1}, remote()), "allow:3");
  cr_assert_eq(Rules({}).judge(Ask{out, "x", "tcp", "10.0.0.1", 1}, remote()), "deny:default");
}

Test(judge, networks_are_judged_on_the_address_dialled) {
  const Rules rules{"deny out * tcp:10.0.0.0/8", "allow out * tcp"};
  Ask name{out, "x", "tcp", "h.example", 1};
  cr_assert_eq(rules.judge(name, client(1)), "need:address:1");
  cr_assert_eq(rules.judge(name.resolved("10.1.2.3"), client(1)), "deny:1");
  cr_assert_eq(rules.judge(name.resolved("11.1.2.3"), client(1)), "allow:2");
  cr_assert_eq(rules.judge(name.resolved("::ffff:10.1.2.3"), client(1)), "deny:1");
  cr_assert_eq(rules.judge(name.resolved("64:ff9b::a01:203"), client(1)), "deny:1");
  cr_assert_eq(rules.judge(name.resolved("2002:a01:203::1"), client(1)), "deny:1");
  cr_assert_eq(rules.judge(name.resolved("2001:db8::1"), client(1)), "allow:2");
}

Test(judge, an_address_that_cannot_be_had_satisfies_deny_only) {
  const Rules rules{"allow out * tor:10.0.0.0/8", "deny out * tor:10.0.0.0/8", "allow out * *"};
  auto facts = client(1);
  know(facts, Fact::address);
  cr_assert_eq(rules.judge(Ask{out, "x", "tor", "x.onion", 1}, facts), "deny:2");
}

Test(judge, names_do_not_lead_to_special_addresses) {
  const Rules rules{"allow out pong tcp:h.example", "allow out ping tcp:h.example,tcp:127.0.0.0/8"};
  Ask pong{out, "pong", "tcp", "h.example", 1}, ping{out, "ping", "tcp", "h.example", 1};
  cr_assert_eq(rules.judge(pong.resolved("192.0.2.1"), client(1)), "allow:1");
  for (const auto* bad : {"127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::", "224.0.0.1",
                          "ff02::1", "255.255.255.255", "::ffff:127.0.0.1", "2002:7f00:1::"})
    cr_assert_eq(rules.judge(pong.resolved(bad), client(0)), "deny:default", "%s", bad);
  cr_assert_eq(rules.judge(ping.resolved("127.0.0.1"), client(1)), "allow:2");
  const auto verdict = judge(rules.set(), pong.resolved("127.0.0.1"), client(1));
  cr_assert(verdict.reason.find("loopback") != std::string::npos);
}

Test(judge, a_later_rule_may_allow_the_special_range_that_an_earlier_one_did_not_name) {
  const Rules rules{"allow out * tcp", "allow out * tcp:127.0.0.0/8", "deny out * *"};
  Ask name{out, "x", "tcp", "h.example", 1};
  cr_assert_eq(rules.judge(name.resolved("127.0.0.1"), client(1)), "allow:2");
  cr_assert_eq(rules.judge(name.resolved("169.254.0.1"), client(1)), "deny:3");
  cr_assert_eq(rules.judge(Ask{out, "x", "tcp", "127.0.0.1", 1}, client(1)), "allow:1");
}

Test(judge, localhost_is_a_literal) {
  const Rules rules{"allow out * tcp"};
  Ask name{out, "x", "tcp", "localhost", 1};
  cr_assert_eq(rules.judge(name.resolved("127.0.0.1"), client(1)), "allow:1");
  Ask below{out, "x", "tcp", "db.localhost", 1};
  cr_assert_eq(rules.judge(below.resolved("::1"), client(1)), "allow:1");
}

Test(judge, special_ranges_are_not_admitted_by_defaults_either) {
  const Rules rules{{}, {Default::allow, Default::deny, Default::own, Default::own}};
  Ask name{out, "x", "tcp", "h.example", 1};
  cr_assert_eq(rules.judge(name.resolved("192.0.2.1"), client(1)), "allow:default");
  cr_assert_eq(rules.judge(name.resolved("127.0.0.1"), client(0)), "deny:default");
}

Test(judge, names_in_in_rules_are_authenticated_ones) {
  const Rules rules{"allow in authd tls:a.example", "allow in authd tls:*.b.example:9000",
                    "allow in authd psk:k", "allow in authd cert:c.example"};
  Ask asked{in, "authd", "tls", "", 9000};
  asked.resolved("192.0.2.1");
  auto peer = remote();
  cr_assert_eq(rules.judge(asked, peer), "deny:default");
  peer.cert_names = {"other.example", "a.example"};
  cr_assert_eq(rules.judge(asked, peer), "allow:1");
  peer.cert_names = {"x.b.example"};
  cr_assert_eq(rules.judge(asked, peer), "allow:2");
  peer.cert_names = {"c.example"};
  cr_assert_eq(rules.judge(asked, peer), "allow:4");
  peer.cert_names = {};
  peer.psk_identity = "k";
  cr_assert_eq(rules.judge(asked, peer), "allow:3");
}

Test(judge, in_rules_judge_the_peers_address_and_the_local_port) {
  const Rules rules{"allow in * tcp:192.0.2.0/24:9000"};
  Ask asked{in, "x", "tcp", "", 9000};
  cr_assert_eq(rules.judge(asked.resolved("192.0.2.7"), remote()), "allow:1");
  cr_assert_eq(rules.judge(asked.resolved("192.0.3.7"), remote()), "deny:default");
  asked.question.port = 9001;
  cr_assert_eq(rules.judge(asked.resolved("192.0.2.7"), remote()), "deny:default");
}

Test(judge, a_clients_own_path_must_be_named_by_a_rule) {
  const Rules rules{"allow local * *", "allow local * unix:/run/app/*"};
  Ask path{local, "*"};
  path.question.by_client = true;
  path.question.unix_path = "/run/app/x.sock";
  cr_assert_eq(rules.judge(path, client(5)), "allow:2");
  cr_assert_eq(rules.judge(path, client(0)), "allow:1");
  path.question.unix_path = "/run/other.sock";
  cr_assert_eq(rules.judge(path, client(5)), "deny:default");
  path.question.by_client = false;
  cr_assert_eq(rules.judge(path, client(5)), "allow:1");
}

Test(judge, a_stored_identity_in_a_clients_wish_must_be_named_by_a_rule) {
  const Rules rules{"allow out * tls", "allow out * as:alice"};
  Ask ask{out, "x", "tls", "192.0.2.1", 1};
  ask.question.by_client = true;
  ask.question.identity = "alice";
  cr_assert_eq(rules.judge(ask, client(0)), "allow:2");
  ask.question.identity = "bob";
  cr_assert_eq(rules.judge(ask, client(0)), "deny:default");
  ask.question.by_client = false;
  cr_assert_eq(rules.judge(ask, client(0)), "allow:1");
}

Test(judge, audit_lets_through_and_says_so) {
  const Rules rules{"audit out * tcp:10.0.0.0/8", "deny out * *"};
  cr_assert_eq(rules.judge(Ask{out, "x", "tcp", "10.0.0.1", 1}, client(5)), "audit:1");
  cr_assert_eq(rules.judge(Ask{out, "x", "tcp", "11.0.0.1", 1}, client(5)), "deny:2");
}

Test(judge, uris_without_a_name_are_judged_as_star) {
  const Rules rules{"allow out a *", "allow out *.b *", "deny out * *"};
  cr_assert_eq(rules.judge(Ask{out, "*", "tcp", "10.0.0.1", 1}, client(5)), "deny:3");
}

Test(judge, explain_says_why_each_rule_did_not_match) {
  const Rules rules{"allow out pong user:1001", "deny out pong tcp:10.0.0.0/8", "allow out * *"};
  const auto seen = consider(rules.set(), Ask{out, "pong", "tcp", "11.0.0.1", 1}, client(1000));
  cr_assert_eq(seen.size(), 3);
  cr_assert_eq(seen[0].why, "user: client is uid 1000, not 1001");
  cr_assert_eq(seen[1].why, "target: tcp:11.0.0.1:1, the rule wants tcp:10.0.0.0/8");
  cr_assert(seen[2].part == Considered::Part::decided && seen[2].why == "matches");
}

Test(judge, what_waits_for_the_address_is_undecided_and_what_comes_behind_it_has_not_decided) {
  const Rules rules{"deny out * tcp:10.0.0.0/8", "deny out * tcp"};
  const auto seen = consider(rules.set(), Ask{out, "pong", "tcp", "far.example.com", 1}, client(0));
  cr_assert_eq(seen.size(), 2);
  cr_assert(seen[0].part == Considered::Part::undecided, "%s", seen[0].why.c_str());
  cr_assert(seen[1].part == Considered::Part::passed, "%s", seen[1].why.c_str());
}

namespace {
/// "2<-1" for each rule that is never reached.
std::string hidden(std::initializer_list<std::string_view> lines) {
  const Rules rules(lines);
  std::string said;
  for (const auto& h : hidden_rules(rules.set()))
    said += (said.empty() ? "" : " ") + std::to_string(h.rule + 1) + "<-" + std::to_string(h.by + 1);
  return said;
}
}  // namespace

Test(judge, rules_behind_a_wider_one_are_found) {
  cr_expect_eq(hidden({"deny in * *", "allow in authd tls:example.com"}), "2<-1");
  cr_expect_eq(hidden({"allow in authd tls:example.com", "deny in * *"}), "");
  cr_expect_eq(hidden({"allow out *.shop *", "deny out db.shop *", "deny out *.x.shop user:1"}), "2<-1 3<-1");
  cr_expect_eq(hidden({"allow out *.shop *", "deny out shop *", "deny out * *"}), "");
  cr_expect_eq(hidden({"deny out * tcp:10.0.0.0/8", "allow out a tcp:10.1.0.0/16:80"}), "2<-1");
  cr_expect_eq(hidden({"deny out * tcp:10.1.0.0/16", "allow out a tcp:10.0.0.0/8"}), "");
  cr_expect_eq(hidden({"deny out * tcp:*.example.com", "allow out a tcp:*.a.example.com:1"}), "2<-1");
  cr_expect_eq(hidden({"deny out * tcp:*:80", "allow out a tcp:h:80", "allow out a tcp:h"}), "2<-1");
  cr_expect_eq(hidden({"deny local * unix:/run/*", "allow local * unix:/run/a/*", "allow local * unix:/run"}),
               "2<-1");
  cr_expect_eq(hidden({"deny out * user:1", "allow out * user:1,exe:/bin/x", "allow out * exe:/bin/x"}),
               "2<-1");
  cr_expect_eq(hidden({"allow out a *", "allow out a *"}), "2<-1");
}

Test(judge, a_rule_that_names_what_must_be_named_is_not_hidden_by_one_that_does_not) {
  cr_expect_eq(hidden({"allow out * tcp", "allow out * tcp:127.0.0.0/8"}), "");
  cr_expect_eq(hidden({"allow out * tcp", "allow out * tcp:10.0.0.0/8"}), "2<-1");
  cr_expect_eq(hidden({"allow out * *", "allow out * as:k", "allow local * *", "allow local x unix:/run/x"}),
               "");
  cr_expect_eq(hidden({"deny out * *", "allow out * as:k"}), "2<-1");
}
