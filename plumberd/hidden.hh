// Rules that can never decide, because an earlier one matches all that they match.
#pragma once
#include <cstdint>
#include <vector>

#include "plumberd/judge.hh"

namespace plumberd {

struct Hidden {
  std::uint32_t rule;  ///< number of the rule that is never reached
  std::uint32_t by;    ///< number of the rule in front of it: of the same source where there is one
  bool same_source;
};
std::vector<Hidden> hidden_rules(const RuleSet& rules);

}  // namespace plumberd
