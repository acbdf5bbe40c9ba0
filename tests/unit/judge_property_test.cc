// judge and its naive twin agree on random rule sets, and "never reached" is never said of a rule that is.
#include <random>

#include "plumberd/hidden.hh"
#include "tests/unit/policy_kit.hh"

using namespace plumberd;
using namespace plumberd::testing;

namespace {
class Random {
 public:
  explicit Random(unsigned seed) : engine_{seed} {}
  unsigned below(unsigned limit) { return static_cast<unsigned>(engine_() % limit); }
  template <std::size_t n>
  std::string one_of(const char* const (&choices)[n]) {
    return choices[below(n)];
  }

  std::string service() {
    static const char* const names[] = {"a", "b", "a.b", "c.a.b", "x.b", "d"};
    static const char* const patterns[] = {"*", "*.b", "*.a.b"};
    return below(3) == 0 ? one_of(patterns) : one_of(names);
  }
  std::string name() {
    static const char* const names[] = {"a", "b", "a.b", "c.a.b", "x.b", "d", "*"};
    return one_of(names);
  }
  std::string host(bool names) {
    static const char* const any[] = {
        "*",           "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3",        "0.0.0.0/0",
        "127.0.0.0/8", "[::/0]",     "[fe80::/10]", "[2001:db8::/32]", "10.1.2.0/31"};
    static const char* const dns[] = {"h.example", "*.example", "*.x.example", "y.x.example"};
    return names && below(2) == 0 ? one_of(dns) : one_of(any);
  }
  std::string endpoint(bool in) {
    static const char* const known[] = {"tcp", "tls"};
    const auto scheme = one_of(known);
    if (below(6) == 0) return scheme;
    return scheme + ":" + host(!in || scheme == "tls") +
           (below(3) == 0 ? ":" + std::to_string(1 + below(3)) : "");
  }
  std::string principal() {
    static const char* const known[] = {"user:1",  "user:2",      "user:ghost", "group:1",
                                        "group:2", "group:ghost", "exe:/bin/x", "exe:/bin/y",
                                        "unit:u",  "unit:v",      "user-unit:u"};
    return one_of(known);
  }
  std::string selector(Direction direction) {
    static const char* const peers[] = {"cert:h.example", "psk:k", "psk:l"};
    static const char* const paths[] = {"unix:/run/*", "unix:/run/a/*", "unix:/run/a/s", "unix:/*"};
    if (direction == Direction::in) return below(4) == 0 ? one_of(peers) : endpoint(true);
    if (direction == Direction::out && below(8) == 0) return below(2) == 0 ? "as:k" : "as:l";
    if (direction == Direction::out && below(2) == 0) return endpoint(false);
    if (direction == Direction::local && below(2) == 0) return one_of(paths);
    return principal();
  }
  ParsedRule rule(std::uint32_t line) {
    static const char* const actions[] = {"allow", "allow", "deny", "deny", "audit"};
    const auto direction = static_cast<Direction>(below(direction_count));
    std::string peer = below(8) == 0 ? "*" : selector(direction);
    for (auto more = peer == "*" ? 0 : below(3); more > 0; --more) peer += "," + selector(direction);
    return parsed(one_of(actions) + " " + std::string(to_string(direction)) + " " + service() + " " + peer,
                  line);
  }

  void fill(Facts& facts) {
    facts.is_local = below(8) != 0;
    if (below(6) != 0) facts.uid = below(3);
    facts.is_owner = facts.uid == 0U;
    for (std::size_t i = 0; i < 5; ++i) facts.asked.set(i, below(3) != 0);
    if (facts.has(Fact::groups) && below(3) != 0) facts.groups = std::vector<gid_t>{below(2), 2 + below(2)};
    if (facts.has(Fact::exe) && below(3) != 0) facts.exe = below(2) == 0 ? "/bin/x" : "/bin/z";
    if (facts.has(Fact::unit) && below(3) != 0) facts.unit = below(2) == 0 ? "u.service" : "";
    if (facts.has(Fact::user_unit) && below(3) != 0) facts.user_unit = "u.service";
    if (below(2) == 0) facts.cert_names = {"h.example", "y.x.example"};
    if (below(2) == 0) facts.psk_identity = "k";
  }

 private:
  std::mt19937 engine_;
};

/// A random question that owns its text.
struct Asking {
  std::string service, scheme, host, path, identity;
  ipc::Address address{};
  Question question{};
  explicit Asking(Random& random) : service{random.name()} {
    static const char* const hosts[] = {"h.example", "y.x.example", "example", "localhost", "z.example"};
    static const char* const addresses[] = {"10.1.2.3",        "10.1.2.4",      "10.9.9.9",    "127.0.0.1",
                                            "192.0.2.1",       "::1",           "2001:db8::1", "fe80::1",
                                            "::ffff:10.1.2.3", "2002:a01:203::"};
    static const char* const paths[] = {"", "/run/a/s", "/run/b", "/run/a/t", "/etc/x"};
    scheme = random.below(2) == 0 ? "tcp" : "tls";
    host = random.one_of(hosts);
    path = random.one_of(paths);
    identity = random.below(2) == 0 ? "" : "k";
    address = *ipc::parse_address(random.one_of(addresses));
    question = {.direction = static_cast<Direction>(random.below(direction_count)),
                .service = service,
                .scheme = scheme,
                .host = host,
                .address = random.below(4) == 0 ? nullptr : &address,
                .port = static_cast<std::uint16_t>(random.below(4)),
                .host_is_name = random.below(2) == 0,
                .unix_path = path,
                .identity = identity,
                .by_client = random.below(2) == 0};
  }
};

void check_set(Random& random, unsigned size) {
  std::vector<ParsedRule> rules;
  for (std::uint32_t i = 0; i < size; ++i) rules.push_back(random.rule(i + 1));
  const auto value = [&] { return static_cast<Default>(random.below(3)); };
  const RuleSet set{rules, {value(), value(), value(), value()}};
  std::vector<bool> hidden(size);
  for (const auto& h : hidden_rules(set)) hidden[h.rule] = true;
  for (int i = 0; i < 60; ++i) {
    const Asking asking{random};
    Facts facts;
    random.fill(facts);
    const auto fast = judge(set, asking.question, facts), slow = judge_naively(set, asking.question, facts);
    cr_assert(fast.kind == slow.kind && fast.rule == slow.rule && fast.audited == slow.audited);
    cr_assert(fast.need == slow.need && fast.reason == slow.reason);
    const bool all_known = facts.uid && facts.groups && facts.exe && facts.unit && facts.user_unit;
    if (fast.rule == nullptr || !all_known || asking.question.address == nullptr) continue;
    const auto number = static_cast<std::size_t>(fast.rule - set.rules().data());
    const bool ghost = fast.rule->text().find("ghost") != std::string_view::npos;
    const bool passed_over =
        fast.kind == Verdict::Kind::deny && (asking.question.by_client || !fast.reason.empty());
    cr_assert(ghost || passed_over || !hidden[number], "%s", std::string(fast.rule->text()).c_str());
  }
}
}  // namespace

Test(judge, finds_what_a_naive_scan_finds_on_small_rule_sets) {
  Random random{20240517};
  for (int i = 0; i < 600; ++i) check_set(random, 1 + random.below(12));
}

Test(judge, finds_what_a_naive_scan_finds_on_rule_sets_that_need_the_whole_index) {
  Random random{4711};
  for (int i = 0; i < 60; ++i) check_set(random, 100 + random.below(900));
}
