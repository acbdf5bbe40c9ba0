#include "plumberd/rule.hh"

#include <algorithm>
#include <array>

#include "ipc/name.hh"
#include "plumberd/nearest.hh"
#include "plumberd/selector.hh"

namespace plumberd {
namespace {
constexpr std::array<std::string_view, 3> actions{"allow", "deny", "audit"};
constexpr std::array<std::string_view, direction_count> directions{"out", "in", "local", "serve"};
constexpr std::size_t longest_rule = 8192;
constexpr std::size_t most_selectors = 32;

/// A word of the rule and its 0-based place.
struct Column {
  std::string_view text;
  std::size_t offset = 0;
};

/// The text cut at blanks; five columns at most, more than a rule has.
std::vector<Column> columns_of(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  std::vector<Column> columns;
  std::size_t at = text.find_first_not_of(blanks);
  while (at != text.npos && columns.size() < 5) {
    const auto end = std::min(text.find_first_of(blanks, at), text.size());
    columns.push_back({text.substr(at, end - at), at});
    at = text.find_first_not_of(blanks, end);
  }
  return columns;
}

class Parser {
 public:
  Parser(std::string_view text, const std::vector<std::string>& schemes, std::size_t* column)
      : text_{text}, schemes_{schemes}, column_{column} {}

  ipc::Result<ParsedRule> parse() {
    const auto columns = columns_of(text_);
    TRY(check_shape(columns));
    ParsedRule rule;
    rule.action = TRY(action(columns[0]));
    rule.direction = TRY(direction(columns[1]));
    rule.service = TRY(service(columns[2]));
    rule.peer = TRY(peer(columns[3], rule.direction));
    for (const auto& column : columns) rule.text += (rule.text.empty() ? "" : " ") + std::string(column.text);
    return rule;
  }

 private:
  std::unexpected<ipc::Error> wrong(std::size_t offset, std::string text) {
    if (column_ != nullptr) *column_ = offset + 1;
    return ipc::fail(ipc::Word::bad_request, std::move(text));
  }

  ipc::Result<> check_shape(const std::vector<Column>& columns) {
    if (text_.size() > longest_rule) return wrong(0, "a rule of more than 8192 bytes; split it");
    const auto odd = std::ranges::find_if(
        text_, [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
    if (odd != text_.end())
      return wrong(static_cast<std::size_t>(odd - text_.begin()),
                   "a control byte in a rule; write it as %XX");
    if (columns.size() < 4)
      return wrong(text_.size(), "a rule has four words, ACTION DIRECTION SERVICE PEER; " +
                                     std::to_string(columns.size()) + " are here: add the rest");
    if (columns.size() > 4)
      return wrong(columns[4].offset,
                   "a rule has four words, ACTION DIRECTION SERVICE PEER; join selectors by commas without "
                   "blanks, write a blank in a value as %20, and where a shell read it, quote the *");
    return {};
  }

  ipc::Result<Action> action(const Column& column) {
    const auto* found = std::ranges::find(actions, column.text);
    if (found != actions.end()) return static_cast<Action>(found - actions.begin());
    return wrong(column.offset, "\"" + ipc::printable(column.text, 64) + "\" is no action" +
                                    remedy_for(column.text, actions));
  }

  ipc::Result<Direction> direction(const Column& column) {
    if (const auto found = direction_from(column.text)) return *found;
    return wrong(column.offset, "\"" + ipc::printable(column.text, 64) + "\" is no direction" +
                                    remedy_for(column.text, directions));
  }

  ipc::Result<std::string> service(const Column& column) {
    if (const auto ok = ipc::check_service_pattern(column.text); column.text != ipc::metrics_service && !ok)
      return wrong(
          column.offset,
          ok.error().text + "; write \"*\", a name or \"*.name\" (quote the * where a shell reads it)");
    return std::string(column.text);
  }

  ipc::Result<std::vector<Selector>> peer(const Column& column, Direction direction) {
    std::vector<Selector> selectors;
    if (column.text == "*") return selectors;
    std::size_t at = 0;
    while (at <= column.text.size()) {
      const auto end = std::min(column.text.find(',', at), column.text.size());
      auto selector = parse_selector(column.text.substr(at, end - at), direction, schemes_);
      if (!selector)
        return wrong(column.offset + at + selector.error().offset, std::move(selector.error().text));
      selectors.push_back(std::move(*selector));
      at = end + 1;
    }
    if (selectors.size() > most_selectors)
      return wrong(column.offset, "more than 32 selectors in a rule; all must hold, so fewer will do");
    return selectors;
  }

  std::string_view text_;
  const std::vector<std::string>& schemes_;
  std::size_t* column_;
};
}  // namespace

std::string_view to_string(Action action) { return actions[static_cast<std::size_t>(action)]; }
std::string_view to_string(Direction direction) { return directions[static_cast<std::size_t>(direction)]; }

std::optional<Direction> direction_from(std::string_view text) {
  const auto* found = std::ranges::find(directions, text);
  if (found == directions.end()) return std::nullopt;
  return static_cast<Direction>(found - directions.begin());
}

ipc::Result<ParsedRule> parse_rule(std::string_view text, const std::vector<std::string>& schemes,
                                   std::size_t* column) {
  return Parser{text, schemes, column}.parse();
}
}  // namespace plumberd
