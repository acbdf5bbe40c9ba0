// The peer column of a rule, selector by selector.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/rule.hh"

namespace plumberd {

/// A selector, or where in it (0-based) it is wrong and "what; remedy".
struct SelectorFault {
  std::size_t offset = 0;
  std::string text{};
};
std::expected<Selector, SelectorFault> parse_selector(std::string_view text, Direction direction,
                                                      const std::vector<std::string>& schemes);

/// Words that name a selector and therefore cannot be schemes of helpers.
bool is_selector_word(std::string_view word);

}  // namespace plumberd
