// A first look at TOML text: refuses what would exhaust the parser's stack, and reads the one array that may
// have 100,000 elements, `rules`, in a single pass.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumberd {

/// A rule's text and where it begins in the file.
struct RuleText {
  std::size_t offset = 0;  ///< of the first byte behind the opening quote
  std::string text{};
};

struct TomlScan {
  std::optional<std::size_t> too_deep{};  ///< offset where nesting passes any sensible depth
  /// The array `rules` of the root table, if it stands there in plain form (one-line strings only); what is
  /// written otherwise is left to the parser.
  std::vector<RuleText> rules{};
  std::size_t rules_begin = 0, rules_end = 0;  ///< offsets of '[' and behind ']'; equal: no such array
};
TomlScan scan_toml(std::string_view text);

}  // namespace plumberd
