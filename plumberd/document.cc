#include "plumberd/document.hh"

#include <algorithm>
#include <sstream>
#include <toml.hpp>

#include "ipc/name.hh"

namespace plumberd {
namespace {
/// The library needs some hundred bytes for each value, and a second for 100,000 of them.
constexpr std::size_t most_parsed = std::size_t{8} << 20;

/// The text without the array of rules, and how offsets in it relate to the file's.
struct Cut {
  std::string text;
  std::size_t begin = 0, removed = 0;
  std::size_t original(std::size_t offset) const { return offset > begin ? offset + removed : offset; }
};

Cut cut_rules(std::string_view text, const TomlScan& scan) {
  if (scan.rules_end == 0) return {.text = std::string(text)};
  Cut cut{.begin = scan.rules_begin};
  cut.text = std::string(text.substr(0, scan.rules_begin)) + "[]" + std::string(text.substr(scan.rules_end));
  cut.removed = scan.rules_end - scan.rules_begin - 2;
  return cut;
}

/// The library counts lines from the start of the text for each location; its regions know the offset.
std::size_t offset_of(const toml::value& value, const Cut& cut) {
  const auto* region = dynamic_cast<const toml::detail::region*>(toml::detail::get_region(value));
  if (region == nullptr) return 0;
  return cut.original(static_cast<std::size_t>(region->first() - region->begin()));
}

Node::Kind kind_of(const toml::value& value) {
  if (value.is_boolean()) return Node::Kind::boolean;
  if (value.is_integer()) return Node::Kind::integer;
  if (value.is_string()) return Node::Kind::string;
  if (value.is_array()) return Node::Kind::array;
  return value.is_table() ? Node::Kind::table : Node::Kind::other;
}

Node converted(const toml::value& value, const Cut& cut) {
  Node node{.kind = kind_of(value), .offset = offset_of(value, cut)};
  if (value.is_boolean()) node.number = value.as_boolean() ? 1 : 0;
  if (value.is_integer()) node.number = value.as_integer();
  if (value.is_string()) node.text = value.as_string().str;
  if (value.is_array())
    for (const auto& item : value.as_array()) node.items.push_back(converted(item, cut));
  if (!value.is_table()) return node;
  for (const auto& [key, member] : value.as_table()) node.members.emplace_back(key, converted(member, cut));
  std::ranges::sort(node.members, [](const auto& a, const auto& b) {
    return std::pair{a.second.offset, a.first} < std::pair{b.second.offset, b.first};
  });
  return node;
}

/// The library's first line without its own names: "[error] toml::insert_value: value (\"a\") already
/// exists."
std::string plain_words(std::string_view what) {
  what = what.substr(0, what.find('\n'));
  if (what.starts_with("[error] ")) what.remove_prefix(8);
  if (const auto name = what.find("toml::"); name != what.npos)
    what.remove_prefix(std::min(what.find(": ", name), what.size() - 2) + 2);
  return ipc::printable(what) + "; correct the TOML here (https://toml.io)";
}

std::size_t offset_of(const toml::source_location& where, const Cut& cut) {
  std::size_t offset = 0;
  for (auto line = where.line(); line > 1; --line) {
    const auto end = cut.text.find('\n', offset);
    if (end == cut.text.npos) break;
    offset = end + 1;
  }
  return cut.original(std::min(offset + where.column() - 1, cut.text.size()));
}

Node parsed(const SourceText& source, const Cut& cut, Report& report) {
  try {
    std::istringstream stream{cut.text};
    return converted(toml::parse(stream, source.name()), cut);
  } catch (const toml::syntax_error& error) {
    report.error({&source, offset_of(error.location(), cut)}, plain_words(error.what()));
  } catch (const std::exception& error) {
    report.error({&source, 0}, plain_words(error.what()));
  }
  return {};
}
}  // namespace

Document parse_document(const SourceText& source, Report& report) {
  Document document{.source = &source};
  auto scan = scan_toml(source.text());
  if (scan.too_deep) {
    report.error({&source, *scan.too_deep}, "nested too deeply; nothing here needs more than a few levels");
    return document;
  }
  const auto cut = cut_rules(source.text(), scan);
  if (cut.text.size() > most_parsed) {
    report.error({&source, 0},
                 "more than 8 MiB beside the rules; split the file (rules count as such where they are "
                 "a list of one-line strings)");
  } else {
    document.root = parsed(source, cut, report);
  }
  document.rules = std::move(scan.rules);
  return document;
}
}  // namespace plumberd
