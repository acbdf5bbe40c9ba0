#include "plumberd/toml_scan.hh"

#include <algorithm>

namespace plumberd {
namespace {
constexpr std::size_t deepest = 32;
constexpr std::size_t most_dots = 64;  // in one line outside of strings: parts of dotted keys

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_{text} {}

  TomlScan scan() {
    while (at_ < text_.size() && !found_.too_deep) {
      if (statement_starts_) start_statement();
      if (at_ < text_.size()) take_one();
    }
    return std::move(found_);
  }

 private:
  static bool blank(char c) { return c == ' ' || c == '\t'; }
  static bool space(char c) { return blank(c) || c == '\n' || c == '\r'; }
  bool here(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  void skip_blanks() {
    while (at_ < text_.size() && blank(text_[at_])) ++at_;
  }
  void skip_line() { at_ = std::min(text_.find('\n', at_), text_.size()); }

  /// At the first byte of a statement outside of brackets: a table header, or a key.
  void start_statement() {
    statement_starts_ = false;
    skip_blanks();
    if (here("[")) in_root_ = false;
    if (!in_root_ || !here("rules")) return;
    const auto key = at_;
    at_ += 5;
    skip_blanks();
    if (!here("=")) return static_cast<void>(at_ = key);
    ++at_;
    skip_blanks();
    if (!here("[") || !read_rules()) at_ = key;
  }

  /// One token, as far as nesting is concerned.
  void take_one() {
    const char c = text_[at_];
    if (c == '#') return skip_line();
    if (c == '"' || c == '\'') return skip_string(c);
    ++at_;
    if (c == '\n') {
      dots_ = 0;
      statement_starts_ = depth_ == 0;
    }
    if (c == '[' || c == '{') ++depth_;
    if ((c == ']' || c == '}') && depth_ > 0) --depth_;
    if (c == '.') ++dots_;
    if (depth_ > deepest || dots_ > most_dots) found_.too_deep = at_ - 1;
  }

  void skip_string(char quote) {
    const std::string_view three = quote == '"' ? "\"\"\"" : "'''";
    if (here(three)) {
      at_ += 3;
      while (at_ < text_.size() && !here(three)) at_ += quote == '"' && text_[at_] == '\\' ? 2 : 1;
      at_ = std::min(at_ + 3, text_.size());
      return;
    }
    ++at_;
    while (at_ < text_.size() && text_[at_] != quote && text_[at_] != '\n')
      at_ += quote == '"' && text_[at_] == '\\' ? 2 : 1;
    at_ = std::min(at_ + (at_ < text_.size() && text_[at_] == '\n' ? 0 : 1), text_.size());
  }

  /// The array at '['. False, and nothing kept, if it holds anything but one-line strings.
  bool read_rules() {
    if (found_.rules_end != 0) return false;  // twice: the parser says so
    const auto begin = at_++;
    bool more = true;
    while (skip_between(), at_ < text_.size() && text_[at_] != ']') {
      if (!more || !read_rule()) return forget();
      skip_between();
      more = here(",");
      if (more) ++at_;
    }
    if (at_ == text_.size()) return forget();
    found_.rules_begin = begin;
    found_.rules_end = ++at_;
    return true;
  }

  bool forget() {
    found_.rules.clear();
    return false;
  }

  void skip_between() {
    while (at_ < text_.size() && (space(text_[at_]) || text_[at_] == '#')) {
      if (text_[at_] == '#') {
        skip_line();
      } else {
        ++at_;
      }
    }
  }

  bool read_rule() {
    const char quote = text_[at_];
    if ((quote != '"' && quote != '\'') || here("\"\"\"") || here("'''")) return false;
    RuleText rule{.offset = ++at_};
    const std::string_view stops = quote == '"' ? "\"\\\n" : "'\n";
    while (true) {
      const auto stop = text_.find_first_of(stops, at_);
      if (stop == text_.npos || text_[stop] == '\n') return false;
      rule.text += text_.substr(at_, stop - at_);
      at_ = stop + 1;
      if (text_[stop] == quote) break;
      if (at_ >= text_.size() || (text_[at_] != '"' && text_[at_] != '\\')) return false;  // other escapes
      rule.text += text_[at_++];
    }
    found_.rules.push_back(std::move(rule));
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0, depth_ = 0, dots_ = 0;
  bool statement_starts_ = true, in_root_ = true;
  TomlScan found_{};
};
}  // namespace

TomlScan scan_toml(std::string_view text) { return Scanner{text}.scan(); }
}  // namespace plumberd
