// One pass over a copy of the text: strings are unescaped where they stand, values become a flat list of
// nodes.
#include <string.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "ipc/json.hh"
#include "utf8.hh"

namespace ipc {
namespace {
using Node = detail::JsonNode;
using Kind = Node::Kind;
constexpr unsigned deepest = 16;
// Duplicate keys are sought pairwise up to here; larger objects are refused.
constexpr std::size_t longest_object = 256;
constexpr std::size_t longest_text = std::size_t{1} << 27;  // what `span` can count

/// The bytes that a string does not go on over.
constexpr auto ends_run = [] {
  std::array<bool, 256> ends{};
  for (std::size_t byte = 0; byte < 0x20; ++byte) ends[byte] = true;
  ends['"'] = ends['\\'] = true;
  return ends;
}();

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool same_text(const Node& a, const Node& b) {
  return a.size == b.size && ::memcmp(a.text, b.text, a.size) == 0;
}

class Parser {
 public:
  /// `text` ends with a NUL, the only one in it.
  Parser(char* text, std::size_t size, std::vector<Node>& nodes)
      : begin_{text}, end_{text + size}, at_{text}, nodes_{nodes} {}

  bool parse() {
    if (!value(0)) return false;
    skip_blanks();
    return at_ == end_ || complain("goes on behind its end");
  }
  std::string complaint() const {
    return "JSON, byte " + std::to_string(at_ - begin_) + ": the text " + complaint_;
  }

 private:
  bool complain(const char* complaint) {
    complaint_ = complaint;
    return false;
  }

  void skip_blanks() {
    while (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t') ++at_;
  }

  bool take(char c) {
    skip_blanks();
    if (*at_ != c) return false;
    ++at_;
    return true;
  }

  void add(Kind kind, const char* from, const char* to) {
    nodes_.push_back(
        Node{.text = from, .size = static_cast<std::uint32_t>(to - from), .span = 1U, .kind = kind});
  }

  bool value(unsigned depth) {
    if (depth > deepest) return complain("is nested deeper than 16 levels");
    skip_blanks();
    switch (*at_) {
      case '"':
        return string();
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case 't':
        return literal("true", Kind::boolean);
      case 'f':
        return literal("false", Kind::boolean);
      case 'n':
        return literal("null", Kind::null);
      default:
        return number();
    }
  }

  bool literal(std::string_view word, Kind kind) {
    if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word))
      return complain("has a word that is none of true, false, null");
    add(kind, at_, at_ + word.size());
    at_ += word.size();
    return true;
  }

  bool digits() {
    const char* first = at_;
    while (is_digit(*at_)) ++at_;
    return at_ != first;
  }

  bool number() {
    const char* first = at_;
    if (*at_ == '-') ++at_;
    const bool zero = *at_ == '0';
    if (zero) ++at_;
    if (!zero && !digits()) return complain(at_ == end_ ? "ends too early" : "has no value here");
    const char* integer_end = at_;
    if (*at_ == '.' && (++at_, !digits())) return complain("has a number that ends with its point");
    if ((*at_ == 'e' || *at_ == 'E') && !exponent()) return complain("has a number without its exponent");
    add(Kind::number, first, at_);
    return is_sure_to_fit(first, integer_end) || fits(first);
  }

  bool exponent() {
    ++at_;
    if (*at_ == '+' || *at_ == '-') ++at_;
    return digits();
  }

  bool is_sure_to_fit(const char* first, const char* integer_end) const {
    constexpr std::ptrdiff_t short_number = 300;  // digits of a double, 1.8e308 at most
    return at_ == integer_end && at_ - first < short_number;
  }

  bool fits(const char* first) {
    double value = 0;
    if (std::from_chars(first, at_, value).ec == std::errc{}) return true;
    return complain("has a number out of range");
  }

  bool string() {
    char* first = ++at_;
    while (!ends_run[static_cast<unsigned char>(*at_)]) ++at_;
    char* last = at_;
    if (*at_ == '\\' && !unescape(last)) return false;
    if (*at_ != '"') return complain(at_ == end_ ? "ends within a string" : "has a control byte in a string");
    ++at_;
    add(Kind::string, first, last);
    return true;
  }

  /// From the first backslash to the closing quote; the plain text ends at `out`.
  bool unescape(char*& out) {
    for (;;) {
      if (*at_ == '\\') {
        if (!escape(out)) return false;
      } else if (ends_run[static_cast<unsigned char>(*at_)]) {
        return true;
      } else {
        *out++ = *at_++;
      }
    }
  }

  bool escape(char*& out) {
    constexpr std::string_view letters = "\"\\/bfnrt", bytes = "\"\\/\b\f\n\r\t";
    const char letter = *++at_;
    if (letter == 'u') return unicode(out);
    const auto index = letter == '\0' ? letters.npos : letters.find(letter);
    if (index == letters.npos) return complain("has an escape that is none of JSON's");
    ++at_;
    *out++ = bytes[index];
    return true;
  }

  /// At the 'u' of \uXXXX. What it stands for is never longer.
  bool unicode(char*& out) {
    std::uint32_t code = 0, low = 0;
    if (!hex(code)) return false;
    if (code == 0) return complain("contains a NUL byte");
    if (code >= 0xd800 && code < 0xe000) {
      const bool is_pair = code < 0xdc00 && at_[0] == '\\' && at_[1] == 'u';
      if (!is_pair) return complain("contains half of a surrogate pair");
      ++at_;
      if (!hex(low)) return false;
      if (low < 0xdc00 || low >= 0xe000) return complain("contains half of a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    out = put_utf8(out, code);
    return true;
  }

  bool hex(std::uint32_t& code) {
    constexpr int digits = 4;
    const char* first = at_ + 1;
    const auto end = std::find(first, first + std::min<std::ptrdiff_t>(digits, end_ - first), '"');
    const auto parsed = std::from_chars(first, end, code, 16);
    if (parsed.ptr != first + digits) return complain("has \\u without four hexadecimal digits");
    at_ += 1 + digits;
    return true;
  }

  bool array(unsigned depth) {
    const auto index = open(Kind::array);
    if (take(']')) return close(index, 0);
    for (std::uint32_t size = 1;; ++size) {
      if (!value(depth + 1)) return false;
      if (take(']')) return close(index, size);
      if (!take(',')) return complain("lacks ',' or ']' here");
    }
  }

  bool object(unsigned depth) {
    const auto index = open(Kind::object);
    if (take('}')) return close(index, 0);
    for (std::uint32_t size = 1;; ++size) {
      skip_blanks();
      if (*at_ != '"') return complain("lacks a key here");
      if (!string() || !is_new_key(index, size)) return false;
      if (!take(':')) return complain("lacks ':' here");
      if (!value(depth + 1)) return false;
      if (take('}')) return close(index, size);
      if (!take(',')) return complain("lacks ',' or '}' here");
    }
  }

  std::size_t open(Kind kind) {
    ++at_;
    add(kind, at_, at_);
    return nodes_.size() - 1;
  }

  bool close(std::size_t index, std::uint32_t size) {
    nodes_[index].size = size;
    nodes_[index].span = static_cast<std::uint32_t>(nodes_.size() - index) & 0x0fffffff;
    return true;
  }

  /// The key is the last node; the keys before it are those of the object at `index`.
  bool is_new_key(std::size_t index, std::size_t size) {
    if (size > longest_object) return complain("has an object of more than 256 members");
    const auto& key = nodes_.back();
    const Node* last = &key;
    for (const Node* other = &nodes_[index] + 1; other != last; other += 1 + other[1].span)
      if (same_text(*other, key)) return complain("has the same key twice");
    return true;
  }

  const char* begin_;
  const char* end_;
  char* at_;
  std::vector<Node>& nodes_;
  const char* complaint_ = "";
};
}  // namespace

Result<JsonDocument> JsonDocument::parse(std::string_view text) {
  if (text.size() > longest_text) return fail(Word::bad_request, "a JSON text of more than 128 MiB");
  if (text.find('\0') != text.npos) return fail(Word::bad_request, "the JSON contains a NUL byte");
  if (!is_utf8(text)) return fail(Word::bad_request, "the JSON is no valid UTF-8");
  constexpr std::size_t usual_nodes = 32;
  JsonDocument document;
  document.text_.reset(new char[text.size() + 1]);
  document.size_ = text.size();
  document.nodes_.reserve(usual_nodes);
  *std::copy(text.begin(), text.end(), document.text_.get()) = '\0';
  Parser parser{document.text_.get(), text.size(), document.nodes_};
  if (!parser.parse()) return fail(Word::bad_request, parser.complaint());
  return document;
}

JsonDocument::~JsonDocument() {
  if (text_) ::explicit_bzero(text_.get(), size_);
}

JsonDocument& JsonDocument::operator=(JsonDocument&& from) noexcept {
  std::swap(text_, from.text_);
  std::swap(size_, from.size_);
  std::swap(nodes_, from.nodes_);
  return *this;
}

JsonView JsonView::operator[](std::string_view name) const {
  if (!is_object()) return {};
  for (const auto *key = node_ + 1, *last = node_ + node_->span; key != last; key += 1 + key[1].span)
    if (JsonView{key}.raw() == name) return JsonView{key + 1};
  return {};
}

std::optional<std::string_view> JsonView::string() const {
  if (!is_string()) return std::nullopt;
  return raw();
}

std::optional<std::int64_t> JsonView::integer() const {
  if (!is(Kind::number)) return std::nullopt;
  std::int64_t value = 0;
  const char* last = node_->text + node_->size;
  const auto [end, status] = std::from_chars(node_->text, last, value);
  if (status != std::errc{} || end != last) return std::nullopt;
  return value;
}

std::optional<double> JsonView::real() const {
  if (!is(Kind::number)) return std::nullopt;
  double value = 0;
  std::from_chars(node_->text, node_->text + node_->size, value);
  return value;
}

std::optional<bool> JsonView::boolean() const {
  if (!is(Kind::boolean)) return std::nullopt;
  return raw() == "true";
}

JsonView JsonView::at(std::size_t index) const {
  if (index >= size()) return {};
  return *std::ranges::next(begin(), static_cast<std::ptrdiff_t>(index));
}

std::vector<std::string> JsonView::strings() const {
  std::vector<std::string> result;
  if (!is_array()) return result;
  for (const auto element : *this)
    if (element.is_string()) result.emplace_back(element.raw());
  return result;
}

Labels JsonView::labels() const {
  Labels result;
  if (!is_object()) return result;
  for (auto i = begin(); i != end(); ++i) {
    const auto name = (*i).raw();
    const auto value = *++i;
    if (value.is_string()) result.emplace(name, value.raw());
  }
  return result;
}

std::vector<std::string> JsonView::keys() const {
  std::vector<std::string> result;
  if (!is_object()) return result;
  for (auto i = begin(); i != end(); ++i, ++i) result.emplace_back((*i).raw());
  return result;
}

std::string JsonView::text() const {
  if (!exists()) return {};
  if (!is_container() && !is_string()) return std::string(raw());
  std::string text;
  JsonWriter writer{text};
  write(writer);
  return text;
}

void JsonView::write(JsonWriter& writer) const {
  if (is_string()) return static_cast<void>(writer.string(raw()));
  if (!is_container()) return static_cast<void>(writer.raw(raw()));
  is_array() ? writer.array() : writer.object();
  for (auto i = begin(); i != end(); ++i) {
    if (is_object()) {
      writer.key((*i).raw());
      ++i;
    }
    (*i).write(writer);
  }
  writer.end();
}
}  // namespace ipc
