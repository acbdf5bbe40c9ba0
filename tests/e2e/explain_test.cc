// `explain` on a live router says what a request would meet, in the words of the rules, and what it would
// come to.
#include <criterion/criterion.h>
#include <unistd.h>

#include "tests/e2e/host.hh"

using kit::Host;

namespace {
constexpr std::string_view policy = R"(
rules = [
  "deny out secret *",
  "allow out pong user:1,tcp:127.0.0.1",
  "allow out pong user:2,exe:/usr/bin/nc",
  "audit out tried *",
  "deny out pong user:3",
  "allow in realweb tls:*.example.com",
  "deny in realweb tcp:10.0.0.0/8",
]
[redirects]
old = "pong"
web = "realweb"
[routes]
pong = "tcp://127.0.0.1:9/pong"
named = "tcp://far.example.com:9/pong"
both = "tcp://localhost:9/pong"
tried = "tcp://127.0.0.1:9"
secret = "tcp://127.0.0.1:9"
)";

struct Explained {
  kit::Wire::Datagram answer;
  explicit Explained(const Host& host, std::string_view params)
      : answer{[&] {
          auto door = host.door();
          return door.call("explain", params);
        }()} {}
  std::string text(std::string_view member) const {
    return std::string(answer.result()[member].string_or(""));
  }
  /// "KIND FROM: TO" of each step, in lines.
  std::string steps() const {
    std::string lines;
    const auto steps = answer.result()["steps"];
    for (const auto step : steps)
      lines += std::string(step["kind"].string_or("")) + " " + std::string(step["from"].string_or("")) +
               ": " + std::string(step["to"].string_or("")) + "\n";
    return lines;
  }
};

void expect_steps(const Explained& explained, std::string_view lines) {
  cr_assert_eq(explained.steps(), lines, "%s", explained.steps().c_str());
}

std::string service(std::string_view name, std::string_view as = {}) {
  std::string params;
  ipc::JsonWriter{params}.object().add("service", name).add_if("as", as).end();
  return params;
}
}  // namespace

Test(explain, names_the_rule_that_decides_and_why_those_before_it_did_not) {
  const Host host{{}, policy};
  const Explained one{host, service("old", "user:1")};
  expect_steps(one,
               "redirect old: pong\n"
               "route pong: tcp://127.0.0.1:9/pong\n"
               "rule allow out pong user:1,tcp:127.0.0.1: matches\n");
  cr_assert_eq(one.text("verdict"), "allow");
  cr_assert_eq(one.text("helper"), "tcpd");
  const Explained three{host, service("pong", "user:3")};
  expect_steps(three,
               "route pong: tcp://127.0.0.1:9/pong\n"
               "rule-passed allow out pong user:1,tcp:127.0.0.1: user: client is uid 3, not 1\n"
               "rule-passed allow out pong user:2,exe:/usr/bin/nc: user: client is uid 3, not 2\n"
               "rule deny out pong user:3: matches\n");
  cr_assert_eq(three.text("code"), "DENIED");
  const Explained two{host, service("pong", "user:2,exe:/bin/false")};
  cr_assert_neq(two.steps().find("exe: executable is /bin/false, not /usr/bin/nc"), std::string::npos, "%s",
                two.steps().c_str());
}

Test(explain, leaves_open_what_only_the_resolved_address_decides) {
  const Host host{{}, policy};
  const Explained named{host, service("named", "user:1")};
  cr_assert_neq(named.steps().find("undecided far.example.com: "), std::string::npos, "%s",
                named.steps().c_str());
  const Explained both{host, service("both", "user:1")};
  cr_assert_neq(both.steps().find("rule allow out pong user:1,tcp:127.0.0.1: matches"), std::string::npos,
                "localhost is an address: %s", both.steps().c_str());
}

Test(explain, says_what_audit_would_deny_and_lets_it_through_and_counts_one_hit_for_one_request) {
  const Host host{{}, policy};
  const Explained tried{host, service("tried", "user:9")};
  cr_assert_eq(tried.text("verdict"), "allow");
  cr_assert_eq(tried.answer.result()["would_deny"]["text"].string_or(""), "audit out tried *");
  auto door = host.door();
  cr_assert_eq(door.call("connect", service("tried")).word(), "UNREACHABLE", "it is let through");
  const auto rules = door.call("rules", "{}");
  cr_assert_eq((*std::ranges::next(rules.result()["rules"].begin(), 3))["hits"].integer_or(0), 1, "%s",
               rules.text.c_str());
}

Test(explain, of_connections_from_outside_judges_the_name_behind_the_redirect) {
  const Host host{{}, policy};
  kit::Offer offer{host, "realweb"};
  const Explained partner{host, R"({"service":"web","direction":"in","from":"tls:www.example.com"})"};
  cr_assert_eq(partner.text("verdict"), "allow", "%s", partner.answer.text.c_str());
  cr_assert_eq(partner.text("opened"), "realweb");
  const Explained stranger{host, R"({"service":"web","direction":"in","from":"tcp:10.1.2.3"})"};
  cr_assert_eq(stranger.answer.result()["rule"]["text"].string_or(""), "deny in realweb tcp:10.0.0.0/8");
}

Test(explain, comes_to_the_same_decision_as_the_request) {
  const Host host{{}, policy};
  auto door = host.door();
  for (const auto* name : {"old", "pong", "tried", "secret", "both", "nobody", "plumberd", "a..b"}) {
    const Explained explained{host, service(name)};
    const auto asked = door.call("connect", R"({"decision":true,"service":")" + std::string(name) + R"("})");
    const auto decision = asked.message->error_data["decision"];
    if (!decision.exists()) continue;  // refused before it was one
    for (const auto* member : {"verdict", "opened", "peer", "reason"})
      cr_assert_eq(explained.text(member), decision[member].string_or(""), "%s: %s", name, member);
    cr_assert_eq(explained.answer.result()["rule"]["text"].string_or(""),
                 decision["rule"]["text"].string_or(""));
  }
}

Test(explain, of_a_name_names_no_rule_that_only_the_address_could_bring_about) {
  const Host host{{}, "rules = [\"deny out * tcp:10.0.0.0/8\", \"deny out * tcp\"]"};
  const Explained named{host, R"({"uri":"tcp://far.example.com:9"})"};
  cr_assert_eq(named.text("verdict"), "allow");
  cr_assert(!named.answer.result()["rule"].exists(), "%s", named.answer.text.c_str());
  cr_assert_neq(named.steps().find("undecided deny out * tcp:10.0.0.0/8: "), std::string::npos, "%s",
                named.steps().c_str());
}

Test(explain, of_connections_from_outside_supposes_what_the_peer_proved) {
  const Host host{{}, "rules = [\"allow in pong psk:alice\"]"};
  kit::Offer offer{host, "pong"};
  const auto asked = [&](std::string_view as) {
    return Explained{host, R"({"service":"pong","direction":"in","from":"tls:192.0.2.1","as":")" +
                               std::string(as) + "\"}"};
  };
  cr_assert_eq(asked("psk:alice").text("verdict"), "allow");
  cr_assert_eq(asked("psk:bob").text("verdict"), "deny");
  cr_assert_eq(asked("user:1").answer.word(), "BAD_REQUEST", "nobody remote is a user here");
}

Test(explain, of_connections_that_may_be_passed_on_goes_on_to_the_other_host) {
  const Host host{{"--allow", "in", "*", "tcp", "--allow", "out", "far", "tcp", "--deny", "out", "*", "*"},
                  "[routes]\nfar = \"tcp://127.0.0.1:9/far\"\nother = \"tcp://127.0.0.1:9/other\"\n"
                  "[[listen]]\nuri = \"tcp://127.0.0.1:0\"\ntransit = true\n"};
  const auto asked = [&](std::string_view name) {
    return Explained{host,
                     R"({"direction":"in","from":"tcp:192.0.2.1","service":")" + std::string(name) + "\"}"};
  };
  cr_assert_eq(asked("far").text("code"), "", "%s", asked("far").answer.text.c_str());
  cr_assert_eq(asked("other").text("code"), "DENIED");
  cr_assert_eq(asked("nobody").text("code"), "UNKNOWN_SERVICE");
}

Test(explain, looks_at_who_offers_a_service_by_itself) {
  if (::geteuid() != 0) cr_skip("needs root");
  const Host host{{"--deny", "serve", "pong", "user:1"}};
  const auto socket = kit::listen_unix(host / "pong");
  cr_assert_eq((Explained{host, service("pong")}.text("code")), "");
  cr_assert_eq(::chown((host / "pong").c_str(), 1, 1), 0);
  cr_assert_eq((Explained{host, service("pong")}.text("code")), "DENIED");
}

Test(explain, shows_no_rule_to_who_may_know_the_word_only) {
  if (::geteuid() != 0) cr_skip("needs root");
  const Host host{{},
                  "rules = [\"deny out secret tcp:10.9.8.7\", \"allow out * *\", \"deny serve own *\", "
                  "\"allow local * *\"]\n"
                  "[defaults]\ndenied_detail = \"word\"\n"};
  host.open_to_all();
  const auto own = kit::listen_unix(host / "own");
  auto door = host.door_as(65'534);
  for (const auto& params : {kit::ask("secret", "secret tcp://x.example.com:80"), kit::ask("own")}) {
    const auto explained = door.call("explain", params);
    for (const auto* hidden : {"10.9.8.7", "plumberd.toml", "deny serve", "allow out"})
      cr_assert_eq(explained.text.find(hidden), std::string::npos, "%s", explained.text.c_str());
  }
}
