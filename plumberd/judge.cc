#include "plumberd/judge.hh"

#include "plumberd/match.hh"
#include "plumberd/rule_index.hh"

namespace plumberd {
namespace {
using Kind = Match::Kind;

RuleTable compacted(const std::vector<ParsedRule>& parsed) {
  RuleTable table;
  table.reserve(parsed.size());
  for (const auto& rule : parsed) table.add(rule);
  return table;
}

std::string_view name_of(Default value) {
  constexpr std::array<std::string_view, 3> names{"allow", "deny", "own"};
  return names[static_cast<std::size_t>(value)];
}

Verdict refused(std::string reason) { return {.kind = Verdict::Kind::deny, .reason = std::move(reason)}; }

std::string special_reason(const Asked& asked) {
  if (!asked.question.host_is_name)
    return ipc::to_string(*asked.address) + " is a " + std::string(asked.special) +
           " address, which a rule has to allow by its number";
  return "\"" + std::string(asked.question.host) + "\" is " + ipc::to_string(*asked.address) + ", a " +
         std::string(asked.special) + " address, to which no name may lead unless a rule allows the address";
}

/// What holds where no rule decides. What must be named by a rule is never let through by a default.
Verdict by_default(Default value, const Asked& asked, const Rule* passed_over) {
  const auto& question = asked.question;
  const auto direction = std::string(to_string(question.direction));
  const bool allowed = value == Default::allow || (value == Default::own && asked.facts.is_owner);
  const bool only_special_is_missing = passed_over != nullptr && !asked.special.empty();
  if (!allowed && !only_special_is_missing)
    return refused("default of " + direction + " is " + std::string(name_of(value)));
  if (!asked.special.empty()) return refused(special_reason(asked));
  if (question.by_client && !question.identity.empty())
    return refused("a stored identity in a client's directive needs a rule with as:" +
                   std::string(question.identity));
  if (question.by_client && !question.unix_path.empty() && !asked.facts.is_owner)
    return refused("a UNIX path in a client's directive needs a rule with unix:" +
                   std::string(question.unix_path));
  return {.kind = Verdict::Kind::allow,
          .reason = "default of " + direction + " is " + std::string(name_of(value))};
}

Verdict by_rule(const Rule& rule, const Match& match) {
  if (match.kind == Kind::unasked) return {.kind = Verdict::Kind::need, .need = match.fact, .rule = &rule};
  Verdict verdict{.kind = Verdict::Kind::allow, .rule = &rule};
  if (rule.action() == Action::deny) verdict.kind = Verdict::Kind::deny;
  if (rule.action() == Action::audit) verdict.audited = &rule;
  return verdict;
}

bool decides(const Match& match) { return match.kind == Kind::yes || match.kind == Kind::unasked; }

/// A denial that came about because a rule was passed over says so.
Verdict with_special(Verdict verdict, const Asked& asked, const Rule* passed_over) {
  if (passed_over == nullptr || verdict.kind != Verdict::Kind::deny || !verdict.reason.empty())
    return verdict;
  if (!asked.special.empty()) verdict.reason = special_reason(asked);
  return verdict;
}
}  // namespace

RuleSet::RuleSet(const std::vector<ParsedRule>& parsed, const Defaults& defaults)
    : RuleSet{compacted(parsed), defaults} {}

RuleSet::RuleSet(RuleTable&& table, const Defaults& defaults) : defaults_{defaults} {
  table.shrink();
  table_ = std::make_unique<const RuleTable>(std::move(table));
  index_ = std::make_unique<const RuleIndex>(*table_);
}

RuleSet::~RuleSet() = default;

std::span<const Rule> RuleSet::rules() const { return table_->rules(); }

Verdict judge(const RuleSet& rules, const Question& question, const Facts& facts) {
  const Asked asked{question, facts};
  Probe probe;
  probe_question(question, facts, probe);
  CandidateLists candidates;
  rules.index().find(question.direction, probe, candidates);
  candidates.each_first([all = rules.rules()](auto number) { __builtin_prefetch(&all[number]); });
  const Rule* passed_over = nullptr;
  for (auto number = candidates.next(); number != CandidateLists::end; number = candidates.next()) {
    const auto& rule = rules.rules()[number];
    const auto match = match_rule(rules.table(), rule, asked);
    if (decides(match)) return with_special(by_rule(rule, match), asked, passed_over);
    if (match.kind == Kind::passed_over) passed_over = &rule;
  }
  return by_default(rules.default_of(question.direction), asked, passed_over);
}

Verdict judge_naively(const RuleSet& rules, const Question& question, const Facts& facts) {
  const Asked asked{question, facts};
  const Rule* passed_over = nullptr;
  for (const auto& rule : rules.rules()) {
    const auto match = match_rule(rules.table(), rule, asked);
    if (decides(match)) return with_special(by_rule(rule, match), asked, passed_over);
    if (match.kind == Kind::passed_over) passed_over = &rule;
  }
  return by_default(rules.default_of(question.direction), asked, passed_over);
}
}  // namespace plumberd
