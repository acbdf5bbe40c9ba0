// The rules that nearly matched, and why they did not: what `plumb explain` shows beside the verdict.
#include <algorithm>

#include "ipc/name.hh"
#include "plumberd/match.hh"

namespace plumberd {
namespace {
using Selects = Selector::Kind;
using Kind = Match::Kind;
constexpr std::size_t most_shown = 100;

std::string list_of(const std::vector<gid_t>& groups) {
  std::string text;
  for (const auto gid : groups) text += (text.empty() ? "" : ",") + std::to_string(gid);
  return text.empty() ? "none" : text;
}

std::string or_none(std::string_view text) { return text.empty() ? "none" : ipc::printable(text, 120); }

std::string names_of(const Facts& facts) {
  std::string text;
  for (const auto& name : facts.cert_names) text += (text.empty() ? "" : ",") + name;
  return or_none(text);
}

std::string target_of(const Asked& asked) {
  const auto& question = asked.question;
  const bool in = question.direction == Direction::in;
  std::string host{in ? std::string_view{} : question.host};
  if (asked.address && (in || host.empty() || question.host_is_name))
    host += (host.empty() ? "" : " = ") + ipc::to_string(*asked.address);
  return std::string(question.scheme) + ":" + or_none(host) + ":" + std::to_string(question.port) +
         (in ? ", certificate names: " + names_of(asked.facts) : "");
}

/// What the client really is, in the terms of the selector.
std::string actual(Selects kind, const Asked& asked) {
  const auto& facts = asked.facts;
  if (!facts.is_local && kind >= Selects::user && kind <= Selects::user_unit) return "not a local client";
  switch (kind) {
    case Selects::endpoint:
      return target_of(asked);
    case Selects::unix_path:
      return "path is " + or_none(asked.question.unix_path);
    case Selects::user:
      return facts.uid ? "client is uid " + std::to_string(*facts.uid) : "uid unknown";
    case Selects::group:
      return facts.groups ? "client's groups are " + list_of(*facts.groups) : "unknown";
    case Selects::exe:
      return "executable is " + or_none(facts.exe.value_or("unknown"));
    case Selects::unit:
      return "unit is " + or_none(facts.unit.value_or("unknown"));
    case Selects::user_unit:
      return "user unit is " + or_none(facts.user_unit.value_or("unknown"));
    case Selects::cert:
      return "certificate names: " + names_of(facts);
    case Selects::psk:
      return "PSK identity is " + or_none(facts.psk_identity);
    case Selects::as_identity:
      return "stored identity is " + or_none(asked.question.identity);
  }
  return {};
}

std::string_view word_of(Selects kind) {
  constexpr std::array<std::string_view, 10> words{"target", "unix",      "user", "group", "exe",
                                                   "unit",   "user-unit", "cert", "psk",   "as"};
  return words[static_cast<std::size_t>(kind)];
}

/// The selectors as the administrator wrote them.
std::string_view peer_text(const Rule& rule) { return rule.text().substr(rule.text().rfind(' ') + 1); }

std::string wanted(const RuleTable& table, const Rule& rule, const CompactSelector& selector) {
  if (selector.kind == Selects::endpoint) return "the rule wants " + std::string(peer_text(rule));
  std::string text = "not " + ipc::printable(table.value(rule, selector), 120);
  if (selector.has_id && text != "not " + std::to_string(selector.number))
    text += " (" + std::to_string(selector.number) + ")";
  return text;
}

std::string why_of(const RuleTable& table, const Rule& rule, const Asked& asked, const Match& match) {
  if (match.kind == Kind::passed_over && asked.special.empty())
    return "allows without naming the path or identity that a client's own word needs";
  if (match.kind == Kind::passed_over)
    return "does not name the address, and " + ipc::to_string(*asked.address) + " is a " +
           std::string(asked.special) + " address";
  if (match.selector == nullptr) return "matches";
  const auto subject =
      std::string(word_of(match.selector->kind)) + ": " + actual(match.selector->kind, asked);
  if (match.kind == Kind::unasked) return std::string(word_of(match.selector->kind)) + ": not looked up";
  if (match.kind == Kind::unknowable) return subject + "; what cannot be known never lets through";
  return subject + ", " + wanted(table, rule, *match.selector);
}

std::size_t misses(const RuleTable& table, const Rule& rule, const Asked& asked) {
  return static_cast<std::size_t>(std::ranges::count_if(table.selectors(rule), [&](const auto& selector) {
    return match_selector(table, rule, selector, asked).kind == Kind::no;
  }));
}

/// Rules for this very name are always of interest, those for any name only when one selector is all that
/// keeps them from matching.
bool nearly(const RuleTable& table, const Rule& rule, const Asked& asked) {
  if (rule.direction() != asked.question.direction) return false;
  if (!ipc::pattern_covers(rule.service(), asked.question.service)) return false;
  return rule.service() != "*" || misses(table, rule, asked) <= 1;
}
}  // namespace

std::vector<Considered> consider(const RuleSet& rules, const Question& question, const Facts& facts) {
  const Asked asked{question, facts};
  using Part = Considered::Part;
  std::vector<Considered> considered;
  bool open = false;  // a rule above may decide once the address is known
  for (const auto& rule : rules.rules()) {
    if (considered.size() >= most_shown) break;
    if (!nearly(rules.table(), rule, asked)) continue;
    const auto match = match_rule(rules.table(), rule, asked);
    const bool matches = match.kind == Kind::yes;
    auto why = matches && open ? "matches, if none of the undecided rules before it does"
                               : why_of(rules.table(), rule, asked, match);
    open = open || match.kind == Kind::unasked;
    const auto part = match.kind == Kind::unasked ? Part::undecided
                      : matches && !open          ? Part::decided
                                                  : Part::passed;
    considered.push_back({&rule, part, std::move(why)});
    if (matches) return considered;
  }
  const auto verdict = judge(rules, question, facts);
  if (verdict.rule != nullptr && verdict.kind != Verdict::Kind::need)
    considered.push_back({verdict.rule, Part::decided, "matches"});
  return considered;
}
}  // namespace plumberd
