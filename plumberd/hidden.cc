#include "plumberd/hidden.hh"

#include <algorithm>
#include <optional>

#include "plumberd/match.hh"
#include "plumberd/rule_index.hh"

namespace plumberd {
namespace {
using Selects = Selector::Kind;
using Host = Selector::Host;

// Rules that differ in nothing the index knows (users that do not exist, a thousand times) would make this
// quadratic; of those only so many are compared with each other.
constexpr std::size_t most_compared = 4096;

/// One selector of one rule.
struct Part {
  const RuleTable& table;
  const Rule& rule;
  const CompactSelector& selector;
  std::string_view value() const { return table.value(rule, selector); }
};

bool host_covers(const Part& wide, const Part& narrow) {
  if (wide.selector.host == Host::any) return true;
  if (wide.selector.host == Host::network) {
    return narrow.selector.host == Host::network &&
           wide.selector.prefix_bits <= narrow.selector.prefix_bits &&
           ipc::in_network(narrow.table.network(narrow.selector), wide.table.network(wide.selector),
                           wide.selector.prefix_bits);
  }
  if (narrow.selector.host != Host::name && narrow.selector.host != Host::suffix) return false;
  if (wide.selector.host == Host::name)
    return narrow.selector.host == Host::name && narrow.value() == wide.value();
  return narrow.value().ends_with(wide.value()) &&
         (narrow.selector.host == Host::suffix || narrow.value().size() > wide.value().size());
}

bool path_covers(const Part& wide, const Part& narrow) {
  if (!wide.selector.subtree) return !narrow.selector.subtree && wide.value() == narrow.value();
  if (narrow.selector.subtree && wide.value() == narrow.value()) return true;
  return narrow.value().size() > wide.value().size() && narrow.value().starts_with(wide.value()) &&
         narrow.value()[wide.value().size()] == '/';
}

/// Whether all that `narrow` matches, `wide` matches too.
bool part_covers(const Part& wide, const Part& narrow) {
  if (wide.selector.kind != narrow.selector.kind) return false;
  if (wide.selector.kind == Selects::unix_path) return path_covers(wide, narrow);
  if (wide.selector.kind != Selects::endpoint) {
    if (wide.selector.has_id && narrow.selector.has_id) return wide.selector.number == narrow.selector.number;
    return wide.selector.has_id == narrow.selector.has_id && wide.value() == narrow.value();
  }
  if (wide.table.scheme(wide.selector) != narrow.table.scheme(narrow.selector)) return false;
  if (wide.selector.port != 0 && wide.selector.port != narrow.selector.port) return false;
  return host_covers(wide, narrow);
}

bool service_covers(std::string_view wide, std::string_view narrow) {
  if (wide == "*" || wide == narrow) return true;
  if (!wide.starts_with("*.") || narrow == "*") return false;
  const auto name = narrow.starts_with("*.") ? narrow.substr(1) : narrow;
  return name.ends_with(wide.substr(1)) && narrow.size() > wide.size() - 1;
}

/// What only a rule that names it can let through: paths, stored identities, special ranges. A rule that
/// lets such through is not hidden by one that does not name it.
bool overlaps_special(const Part& part) {
  const auto network = part.table.network(part.selector);
  const unsigned bits = part.selector.prefix_bits;
  if (!ipc::special_range(network).empty()) return true;
  constexpr std::array<std::string_view, 9> inside{"127.0.0.1", "0.0.0.0",         "169.254.0.1",
                                                   "224.0.0.1", "255.255.255.255", "::1",
                                                   "::",        "fe80::1",         "ff02::1"};
  return std::ranges::any_of(
      inside, [&](auto text) { return ipc::in_network(*ipc::parse_address(text), network, bits); });
}

bool must_be_named(const Part& part) {
  if (part.selector.kind == Selects::unix_path || part.selector.kind == Selects::as_identity) return true;
  return part.rule.direction() == Direction::out && part.selector.host == Host::network &&
         overlaps_special(part);
}

bool names_alike(const RuleTable& table, const Rule& earlier, const Part& part) {
  return std::ranges::any_of(table.selectors(earlier), [&](const auto& selector) {
    return selector.kind == part.selector.kind &&
           (selector.kind != Selects::endpoint || selector.host == Host::network);
  });
}
}  // namespace

bool covers(const RuleTable& table, const Rule& earlier, const Rule& later) {
  if (earlier.direction() != later.direction()) return false;
  if (!service_covers(earlier.service(), later.service())) return false;
  const auto parts = table.selectors(later);
  const bool all = std::ranges::all_of(table.selectors(earlier), [&](const auto& wide) {
    return std::ranges::any_of(parts, [&](const auto& narrow) {
      return part_covers({table, earlier, wide}, {table, later, narrow});
    });
  });
  if (!all || earlier.action() == Action::deny || later.action() == Action::deny) return all;
  return std::ranges::all_of(parts, [&](const auto& selector) {
    const Part part{table, later, selector};
    return !must_be_named(part) || names_alike(table, earlier, part);
  });
}

std::vector<Hidden> hidden_rules(const RuleSet& rules) {
  std::vector<Hidden> hidden;
  const auto all = rules.rules();
  for (std::uint32_t number = 0; number < all.size(); ++number) {
    Probe probe;
    probe_cover(rules.table(), all[number], probe);
    CandidateLists candidates;
    rules.index().find(all[number].direction(), probe, candidates);
    std::optional<Hidden> found;
    std::size_t compared = 0;
    for (auto by = candidates.next(); by < number && compared < most_compared; by = candidates.next()) {
      ++compared;
      const bool same = RuleTable::same_source(all[by], all[number]);
      if ((found && !same) || !covers(rules.table(), all[by], all[number])) continue;
      found = Hidden{number, by, same};
      if (same) break;
    }
    if (found) hidden.push_back(*found);
  }
  return hidden;
}
}  // namespace plumberd
