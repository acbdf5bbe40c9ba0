#include "plumberd/match.hh"

#include <algorithm>

#include "ipc/name.hh"

namespace plumberd {
namespace {
using Kind = Match::Kind;
using Selects = Selector::Kind;

Kind when(bool holds) { return holds ? Kind::yes : Kind::no; }

bool host_covers(const CompactSelector& selector, std::string_view value, std::string_view host) {
  return selector.host == Selector::Host::name ? host == value
                                               : host.size() > value.size() && host.ends_with(value);
}

bool is_localhost(std::string_view host) { return host == "localhost" || host.ends_with(".localhost"); }

class Matcher {
 public:
  Matcher(const RuleTable& table, const Rule& rule, const CompactSelector& selector, const Asked& asked)
      : table_{table},
        selector_{selector},
        asked_{asked},
        question_{asked.question},
        facts_{asked.facts},
        value_{table.value(rule, selector)} {}

  Match match() const {
    switch (selector_.kind) {
      case Selects::endpoint:
        return endpoint();
      case Selects::unix_path:
        return {when(path())};
      case Selects::user:
        return user();
      case Selects::group:
        return group();
      case Selects::exe:
        return text(Fact::exe, facts_.exe);
      case Selects::unit:
        return text(Fact::unit, facts_.unit);
      case Selects::user_unit:
        return text(Fact::user_unit, facts_.user_unit);
      case Selects::cert:
        return {when(std::ranges::find(facts_.cert_names, value_) != facts_.cert_names.end())};
      case Selects::psk:
        return {when(facts_.psk_identity == value_)};
      case Selects::as_identity:
        return {when(question_.identity == value_)};
    }
    return {};
  }

 private:
  Match unknown(Fact fact) const { return {facts_.has(fact) ? Kind::unknowable : Kind::unasked, fact}; }

  Match endpoint() const {
    if (table_.scheme(selector_) != question_.scheme) return {};
    if (selector_.port != 0 && selector_.port != question_.port) return {};
    if (selector_.host == Selector::Host::any) return {Kind::yes};
    if (selector_.host == Selector::Host::network) return network();
    if (question_.direction != Direction::in) return {when(host_covers(selector_, value_, question_.host))};
    return {when(std::ranges::any_of(
        facts_.cert_names, [this](const auto& name) { return host_covers(selector_, value_, name); }))};
  }

  Match network() const {
    if (!asked_.address) return unknown(Fact::address);
    return {when(ipc::in_network(*asked_.address, table_.network(selector_), selector_.prefix_bits))};
  }

  bool path() const {
    const auto path = question_.unix_path;
    if (!selector_.subtree) return path == value_;
    return path.size() > value_.size() && path.starts_with(value_) && path[value_.size()] == '/';
  }

  Match user() const {
    if (!facts_.is_local) return {};
    if (!facts_.uid || !selector_.has_id) return {Kind::unknowable};
    return {when(*facts_.uid == selector_.number)};
  }

  Match group() const {
    if (!facts_.is_local) return {};
    if (!selector_.has_id) return {Kind::unknowable};
    if (!facts_.groups) return unknown(Fact::groups);
    return {when(std::ranges::binary_search(*facts_.groups, selector_.number))};
  }

  Match text(Fact fact, const std::optional<std::string>& known) const {
    if (!facts_.is_local) return {};
    return known ? Match{when(*known == value_)} : unknown(fact);
  }

  const RuleTable& table_;
  const CompactSelector& selector_;
  const Asked& asked_;
  const Question& question_;
  const Facts& facts_;
  std::string_view value_;
};

/// Whether a rule that lets through names, by its selectors, all that this question wants named.
bool names_what_it_must(const RuleTable& table, const Rule& rule, const Asked& asked) {
  const auto has = [&](auto&& wanted) { return std::ranges::any_of(table.selectors(rule), wanted); };
  if (!asked.special.empty() && !has([](const auto& s) { return s.host == Selector::Host::network; }))
    return false;
  if (!asked.question.by_client) return true;
  if (!asked.question.identity.empty() && !has([](const auto& s) { return s.kind == Selects::as_identity; }))
    return false;
  return asked.question.unix_path.empty() || asked.facts.is_owner ||
         has([](const auto& s) { return s.kind == Selects::unix_path; });
}
}  // namespace

Asked::Asked(const Question& asked, const Facts& known) : question{asked}, facts{known} {
  if (asked.address == nullptr) return;
  address = ipc::embedded(*asked.address);
  if (asked.direction != Direction::out || is_localhost(asked.host)) return;
  const auto range = ipc::special_range(*address);
  // Many at once are never meant by the way, not even where the address itself is asked for.
  if (asked.host_is_name || range == "multicast" || range == "broadcast") special = range;
}

Match match_selector(const RuleTable& table, const Rule& rule, const CompactSelector& selector,
                     const Asked& asked) {
  auto match = Matcher{table, rule, selector, asked}.match();
  match.selector = &selector;
  return match;
}

Match match_rule(const RuleTable& table, const Rule& rule, const Asked& asked) {
  if (rule.direction() != asked.question.direction) return {};
  if (!ipc::pattern_covers(rule.service(), asked.question.service)) return {};
  Match open{Kind::yes};
  for (const auto& selector : table.selectors(rule)) {
    const auto match = match_selector(table, rule, selector, asked);
    if (match.kind == Kind::no) return match;
    if (match.kind == Kind::unknowable && rule.action() != Action::deny) return match;
    if (match.kind != Kind::unasked) continue;
    if (open.kind == Kind::yes || match.fact < open.fact) open = match;
  }
  if (rule.action() == Action::deny || names_what_it_must(table, rule, asked)) return open;
  return {Kind::passed_over};
}
}  // namespace plumberd
