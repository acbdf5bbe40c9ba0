// TOML as a tree of our own: values with their places, without the library's types and exceptions.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plumberd/report.hh"
#include "plumberd/toml_scan.hh"

namespace plumberd {

struct Node {
  enum class Kind : std::uint8_t { boolean, integer, string, array, table, other };
  Kind kind = Kind::table;
  std::size_t offset = 0;   ///< in the file
  std::int64_t number = 0;  ///< boolean and integer
  std::string text{};
  std::vector<Node> items{};
  std::vector<std::pair<std::string, Node>> members{};  ///< in the order of the file
};

struct Document {
  const SourceText* source = nullptr;
  Node root{};
  std::vector<RuleText> rules{};
};

/// Parses the text; syntax errors go to the report, and the document is then empty.
Document parse_document(const SourceText& source, Report& report);

}  // namespace plumberd
