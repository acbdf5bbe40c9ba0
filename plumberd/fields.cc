#include "plumberd/fields.hh"

#include <algorithm>
#include <array>
#include <charconv>

#include "ipc/name.hh"
#include "plumberd/nearest.hh"

namespace plumberd {
namespace {
const Node no_table{};

std::string quoted(std::string_view text) { return "\"" + ipc::printable(text, 64) + "\""; }
}  // namespace

Fields::Fields(const Document& document, const Node& table, std::string title, Report& report)
    : document_{document},
      table_{table.kind == Node::Kind::table ? table : no_table},
      title_{std::move(title)},
      report_{report} {
  if (table.kind != Node::Kind::table)
    wrong(table, title_ + " must be a table; write " + title_ + " on a line");
}

const Node* Fields::take(std::string_view key) {
  known_.push_back(key);
  const auto found = std::ranges::find_if(table_.members, [&](const auto& m) { return m.first == key; });
  return found == table_.members.end() ? nullptr : &found->second;
}

void Fields::string(std::string_view key, std::string& into) {
  const auto* node = take(key);
  if (node == nullptr) return;
  if (node->kind != Node::Kind::string)
    return wrong(*node, quoted(key) + " must be a string; put it in quotes");
  if (node->text.find('\0') != std::string::npos)
    return wrong(*node, quoted(key) + " holds a NUL byte; leave it out");
  into = node->text;
}

void Fields::boolean(std::string_view key, bool& into) {
  const auto* node = take(key);
  if (node == nullptr) return;
  if (node->kind != Node::Kind::boolean)
    return wrong(*node, quoted(key) + " must be true or false; write it without quotes");
  into = node->number != 0;
}

void Fields::integer(std::string_view key, unsigned& into, unsigned least, unsigned most) {
  const auto* node = take(key);
  if (node == nullptr) return;
  if (node->kind != Node::Kind::integer || node->number < least || node->number > most)
    return wrong(*node, quoted(key) + " must be a number of " + std::to_string(least) + " to " +
                            std::to_string(most) + "; write it without quotes");
  into = static_cast<unsigned>(node->number);
}

void Fields::duration(std::string_view key, std::chrono::milliseconds& into) {
  const auto* node = take(key);
  if (node == nullptr) return;
  const auto value = node->kind == Node::Kind::string ? parse_duration(node->text) : std::nullopt;
  if (!value)
    return wrong(*node, quoted(key) +
                            " must be a time of 1ms to 24h; write it as \"250ms\", \"5s\", \"2m\" or \"1h\"");
  into = *value;
}

void Fields::strings(std::string_view key, std::vector<std::string>& into, bool one_will_do) {
  const auto* node = take(key);
  if (node == nullptr) return;
  const auto is_string = [](const Node& n) {
    return n.kind == Node::Kind::string && n.text.find('\0') == std::string::npos;
  };
  if (one_will_do && is_string(*node)) return into.push_back(node->text);
  if (node->kind != Node::Kind::array || !std::ranges::all_of(node->items, is_string))
    return wrong(*node, quoted(key) + " must be " + (one_will_do ? "a string or " : "") +
                            "a list of strings; write [\"...\", \"...\"]");
  for (const auto& item : node->items) into.push_back(item.text);
}

Place Fields::place_of_key(std::string_view key, const Node& value) const {
  const auto text = document_.source->text();
  const auto line = text.rfind('\n', value.offset == 0 ? 0 : value.offset - 1);
  const auto start = line == text.npos ? 0 : line + 1;
  const auto found = text.substr(0, value.offset).find(key, start);
  return {.source = document_.source, .offset = found == text.npos ? value.offset : found};
}

void Fields::finish() {
  for (const auto& [key, value] : table_.members)
    if (std::ranges::find(known_, key) == known_.end()) {
      auto text = misplaced(key, title_);
      if (text.empty()) text = "unknown key " + quoted(key) + " in " + title_ + remedy_for(key, known_);
      report_.error(place_of_key(key, value), std::move(text));
    }
}

std::string misplaced(std::string_view key, std::string_view table) {
  if (key != "rules" && key != "pinned") return {};
  return quoted(key) + " is part of " + std::string(table) + " here; move it before the first [table]";
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  struct Unit {
    std::string_view name;
    std::uint64_t milliseconds;
  };
  constexpr std::array units{Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60'000}, Unit{"h", 3'600'000}};
  constexpr std::uint64_t day = 86'400'000;
  std::uint64_t count = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (status != std::errc{} || count == 0 || count > day) return std::nullopt;
  const std::string_view name{end, text.data() + text.size()};
  const auto* unit = std::ranges::find(units, name, &Unit::name);
  if (unit == units.end() || count * unit->milliseconds > day) return std::nullopt;
  return std::chrono::milliseconds{count * unit->milliseconds};
}
}  // namespace plumberd
