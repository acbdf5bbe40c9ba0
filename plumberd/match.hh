// Whether one rule matches one question: what judge, its naive twin and explain all ask.
#pragma once
#include <optional>
#include <string>

#include "plumberd/rule_table.hh"

namespace plumberd {

/// A question with what is derived from it once instead of once a rule.
struct Asked {
  Asked(const Question& asked, const Facts& known);
  const Question& question;
  const Facts& facts;
  std::optional<ipc::Address> address{};  ///< embedded IPv4 taken out
  std::string_view special{};             ///< the special range that a name led to; empty: none
};

struct Match {
  enum class Kind : std::uint8_t { no, yes, unasked, unknowable, passed_over };
  Kind kind = Kind::no;
  Fact fact = Fact::groups;                   ///< with unasked
  const CompactSelector* selector = nullptr;  ///< that decided; null: none did
};

/// One selector by itself: no, yes, unasked or unknowable.
Match match_selector(const RuleTable& table, const Rule& rule, const CompactSelector& selector,
                     const Asked& asked);
/// The whole rule, unknowable facts settled (they satisfy deny only): no, yes, unasked, or passed_over for a
/// rule that lets through without naming what must be named.
Match match_rule(const RuleTable& table, const Rule& rule, const Asked& asked);

/// Whether every question that `later` matches is matched by `earlier`, so that `later` cannot decide. A deny
/// behind a wider allow counts as covered even where that allow would be passed over for something that it
/// does not name: what was meant to be denied is let through in every other case.
bool covers(const RuleTable& table, const Rule& earlier, const Rule& later);

}  // namespace plumberd
