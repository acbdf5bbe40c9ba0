// What the tests of the policy room share: rule sets from text, and clients and questions in one line.
#pragma once
#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "plumberd/judge.hh"

namespace plumberd::testing {

inline const std::vector<std::string> schemes{"tcp", "tls", "dtls", "udp", "unix", "tor"};
constexpr RuleSet::Defaults usual{Default::own, Default::deny, Default::own, Default::own};

/// The error of a rule that must not parse, with its column in front: "5: ...".
inline std::string error_of(std::string_view text) {
  std::size_t column = 0;
  const auto rule = parse_rule(text, schemes, &column);
  return rule ? "parsed" : std::to_string(column) + ": " + rule.error().text;
}

inline ParsedRule parsed(std::string_view text, std::uint32_t line = 1) {
  auto rule = parse_rule(text, schemes);
  cr_assert(rule.has_value(), "%s: %s", std::string(text).c_str(), error_of(text).c_str());
  rule->file = "test.toml";
  rule->line = line;
  return *rule;
}

/// Rules numbered by line.
class Rules {
 public:
  Rules(std::initializer_list<std::string_view> lines, RuleSet::Defaults defaults = usual)
      : set_{from(lines), defaults} {}
  const RuleSet& set() const { return set_; }

  /// "allow:2", "deny:default", "need:exe:1", "audit:3".
  std::string judge(const Question& question, const Facts& facts) const {
    const auto verdict = plumberd::judge(set_, question, facts);
    const auto naive = judge_naively(set_, question, facts);
    cr_assert(verdict.kind == naive.kind && verdict.rule == naive.rule && verdict.need == naive.need);
    return said(verdict);
  }

 private:
  static std::vector<ParsedRule> from(std::initializer_list<std::string_view> lines) {
    std::vector<ParsedRule> rules;
    for (const auto line : lines) rules.push_back(parsed(line, static_cast<std::uint32_t>(rules.size() + 1)));
    return rules;
  }
  static std::string said(const Verdict& verdict) {
    constexpr std::array facts{"groups", "exe", "unit", "user_unit", "address"};
    const auto at = verdict.rule == nullptr ? "default" : verdict.rule->at().substr(10);
    if (verdict.kind == Verdict::Kind::need)
      return std::string("need:") + facts[static_cast<std::size_t>(verdict.need)] + ":" + at;
    if (verdict.audited != nullptr) return "audit:" + at;
    return (verdict.kind == Verdict::Kind::allow ? "allow:" : "deny:") + at;
  }
  RuleSet set_;
};

inline Facts client(uid_t uid) {
  Facts facts;
  facts.uid = uid;
  facts.is_owner = uid == 0;
  return facts;
}
inline Facts remote() {
  Facts facts;
  facts.is_local = false;
  return facts;
}
inline void know(Facts& facts, Fact fact) { facts.asked.set(static_cast<std::size_t>(fact)); }

/// A question whose address lives with it.
struct Ask {
  Question question{};
  ipc::Address address{};
  Ask(const Ask&) = delete;
  Ask(Direction direction, std::string_view service) {
    question.direction = direction;
    question.service = service;
  }
  Ask(Direction direction, std::string_view service, std::string_view scheme, std::string_view host,
      std::uint16_t port)
      : Ask{direction, service} {
    question.scheme = scheme;
    question.host = host;
    question.port = port;
    question.host_is_name = !ipc::parse_address(host);
    if (!question.host_is_name) resolved(host);
  }
  Ask& resolved(std::string_view text) {
    address = *ipc::parse_address(text);
    question.address = &address;
    return *this;
  }
  operator const Question&() const { return question; }
};

}  // namespace plumberd::testing
