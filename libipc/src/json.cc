#include "ipc/json.hh"

// RapidJSON 1.1 adds to the null pointer of a stack that is empty yet.
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#ifdef __clang__
#pragma clang attribute pop
#endif

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

namespace ipc {
namespace {
constexpr unsigned deepest = 16;
constexpr std::size_t longest_object =
    256;  // duplicate keys are sought pairwise up to here, larger objects are refused

const rapidjson::Value& value_of(const void* value) { return *static_cast<const rapidjson::Value*>(value); }

std::string_view text_of(const rapidjson::Value& value) {
  return {value.GetString(), value.GetStringLength()};
}

bool has_duplicate_keys(const rapidjson::Value& object) {
  for (auto a = object.MemberBegin(); a != object.MemberEnd(); ++a)
    for (auto b = object.MemberBegin(); b != a; ++b)
      if (text_of(a->name) == text_of(b->name)) return true;
  return false;
}

bool is_ascii(std::string_view text) {
  std::uint64_t seen = 0, word = 0;
  for (; text.size() >= sizeof word; text.remove_prefix(sizeof word)) {
    std::memcpy(&word, text.data(), sizeof word);
    seen |= word;
  }
  for (const char c : text) seen |= static_cast<unsigned char>(c);
  return (seen & 0x8080808080808080) == 0;
}

bool is_utf8(std::string_view text) {
  if (is_ascii(text)) return true;
  rapidjson::MemoryStream in{text.data(), text.size()};
  rapidjson::StringBuffer sink;
  while (in.Tell() < text.size())
    if (!rapidjson::UTF8<>::Validate(in, sink)) return false;
  return in.Tell() == text.size();
}

bool has_nul(const rapidjson::Value& text) { return text_of(text).find('\0') != std::string_view::npos; }

/// `escapes`: the text has any; without them no string can hold a NUL.
const char* complaint_about(const rapidjson::Value& value, bool escapes, unsigned depth) {
  if (depth > deepest) return "is nested deeper than 16 levels";
  if (escapes && value.IsString() && has_nul(value)) return "contains a NUL byte";
  // RapidJSON 1.1 looks for the second half of a surrogate pair, not for the first.
  if (escapes && value.IsString() && !is_utf8(text_of(value))) return "contains half of a surrogate pair";
  if (value.IsDouble() && !std::isfinite(value.GetDouble())) return "has a number out of range";
  const char* complaint = nullptr;
  if (value.IsArray())
    for (auto i = value.Begin(); i != value.End() && complaint == nullptr; ++i)
      complaint = complaint_about(*i, escapes, depth + 1);
  if (!value.IsObject()) return complaint;
  if (value.MemberCount() > longest_object) return "has an object of more than 256 members";
  if (has_duplicate_keys(value)) return "has the same key twice";
  for (auto i = value.MemberBegin(); i != value.MemberEnd() && complaint == nullptr; ++i) {
    if (escapes) complaint = complaint_about(i->name, escapes, depth + 1);
    if (complaint == nullptr) complaint = complaint_about(i->value, escapes, depth + 1);
  }
  return complaint;
}

/// The bytes that cannot stand in a JSON string as they are, or need a look at their neighbours.
constexpr auto is_special = [] {
  std::array<bool, 256> special{};
  for (std::size_t byte = 0; byte < special.size(); ++byte)
    special[byte] = byte < 0x20 || byte >= 0x80 || byte == '"' || byte == '\\';
  return special;
}();

bool is_plain(std::string_view text) {
  bool special = false;
  for (const char c : text) special |= is_special[static_cast<unsigned char>(c)];
  return !special;
}

void append_escaped(std::string& out, std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte >= 0x20) {
      out += c;
    } else {
      out += {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
    }
  }
}

/// JSON text is UTF-8: bytes that are not become \xNN, visibly.
std::string repaired(std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  std::string plain;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      plain += c;
    } else {
      plain += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    }
  }
  return plain;
}
}  // namespace

void JsonWriter::separate() {
  if (!first_ && !after_key_ && depth_ > 0) out_ += ',';
  first_ = after_key_ = false;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  out_ += bracket;
  arrays_ = (arrays_ << 1) | (bracket == '[' ? 1U : 0U);
  ++depth_;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::end() {
  out_ += (arrays_ & 1) != 0 ? ']' : '}';
  arrays_ >>= 1;
  --depth_;
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  string(name);
  out_ += ':';
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view value) {
  separate();
  out_ += '"';
  if (is_plain(value)) {
    out_ += value;
  } else if (is_utf8(value)) {
    append_escaped(out_, value);
  } else {
    append_escaped(out_, repaired(value));
  }
  out_ += '"';
  return *this;
}

JsonWriter& JsonWriter::number(std::int64_t value) {
  std::array<char, 24> digits;
  const auto done = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return raw({digits.data(), static_cast<std::size_t>(done.ptr - digits.data())});
}

JsonWriter& JsonWriter::decimal(double value) {
  std::array<char, 32> digits;
  if (!std::isfinite(value)) return null();
  const auto done = std::to_chars(digits.data(), digits.data() + digits.size(), value);
  return raw({digits.data(), static_cast<std::size_t>(done.ptr - digits.data())});
}

JsonWriter& JsonWriter::boolean(bool value) { return raw(value ? "true" : "false"); }
JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
  return *this;
}

JsonWriter& JsonWriter::add(std::string_view name, const Labels& labels) {
  key(name).object();
  for (const auto& [label, value] : labels) add(label, value);
  return end();
}

bool JsonView::is_object() const { return exists() && value_of(value_).IsObject(); }
bool JsonView::is_array() const { return exists() && value_of(value_).IsArray(); }
bool JsonView::is_string() const { return exists() && value_of(value_).IsString(); }
bool JsonView::is_null() const { return exists() && value_of(value_).IsNull(); }

JsonView JsonView::operator[](std::string_view name) const {
  if (!is_object()) return {};
  const auto& object = value_of(value_);
  for (auto i = object.MemberBegin(); i != object.MemberEnd(); ++i)
    if (text_of(i->name) == name) return JsonView{&i->value};
  return {};
}

std::optional<std::string_view> JsonView::string() const {
  if (!is_string()) return std::nullopt;
  return text_of(value_of(value_));
}

std::optional<std::int64_t> JsonView::integer() const {
  if (!exists() || !value_of(value_).IsInt64()) return std::nullopt;
  return value_of(value_).GetInt64();
}

std::optional<double> JsonView::real() const {
  if (!exists() || !value_of(value_).IsNumber()) return std::nullopt;
  return value_of(value_).GetDouble();
}

std::optional<bool> JsonView::boolean() const {
  if (!exists() || !value_of(value_).IsBool()) return std::nullopt;
  return value_of(value_).GetBool();
}

std::size_t JsonView::size() const { return is_array() ? value_of(value_).Size() : 0; }

JsonView JsonView::at(std::size_t index) const {
  if (index >= size()) return {};
  return JsonView{&value_of(value_)[static_cast<rapidjson::SizeType>(index)]};
}

std::vector<std::string> JsonView::strings() const {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < size(); ++i)
    if (const auto text = at(i).string()) result.emplace_back(*text);
  return result;
}

Labels JsonView::labels() const {
  Labels result;
  if (!is_object()) return result;
  const auto& object = value_of(value_);
  for (auto i = object.MemberBegin(); i != object.MemberEnd(); ++i)
    if (i->value.IsString()) result.emplace(text_of(i->name), text_of(i->value));
  return result;
}

std::vector<std::string> JsonView::keys() const {
  std::vector<std::string> result;
  if (!is_object()) return result;
  const auto& object = value_of(value_);
  for (auto i = object.MemberBegin(); i != object.MemberEnd(); ++i) result.emplace_back(text_of(i->name));
  return result;
}

std::string JsonView::text() const {
  if (!exists()) return {};
  rapidjson::StringBuffer buffer;
  rapidjson::Writer writer{buffer};
  value_of(value_).Accept(writer);
  return {buffer.GetString(), buffer.GetSize()};
}

// A request is some 200 bytes: its text, in which the strings stay, and its tree fit the room beside the
// document, so that parsing allocates nothing more.
struct JsonDocument::Body {
  using Pool = rapidjson::MemoryPoolAllocator<>;
  std::array<char, 2048> text_room;
  std::array<char, 4096> room;
  std::array<char, 1024> stack_room;
  std::unique_ptr<char[]> long_text;
  Pool pool{room.data(), room.size()};
  Pool stack{stack_room.data(), stack_room.size()};
  rapidjson::GenericDocument<rapidjson::UTF8<>, Pool, Pool> document{&pool, 512, &stack};

  /// A copy of `text` that RapidJSON may work in, with the NUL it wants at the end.
  char* keep(std::string_view text) {
    if (text.size() >= text_room.size()) long_text.reset(new char[text.size() + 1]);
    char* copy = long_text ? long_text.get() : text_room.data();
    *std::copy(text.begin(), text.end(), copy) = '\0';
    return copy;
  }
};

JsonDocument::JsonDocument(std::unique_ptr<Body> body) : body_{std::move(body)} {}
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;
JsonDocument::~JsonDocument() = default;

Result<JsonDocument> JsonDocument::parse(std::string_view text) {
  // RapidJSON takes a NUL for the end of the text.
  if (text.find('\0') != text.npos) return fail(Word::bad_request, "the JSON contains a NUL byte");
  auto body = std::unique_ptr<Body>(new Body);  // not make_unique: it would clear 7 KiB
  char* copy = body->keep(text);
  // The recursive parser is the faster one, and a short text cannot nest deeper than the stack is.
  constexpr std::size_t short_text = 1024;
  if (text.size() <= short_text && is_ascii(text)) {
    body->document.ParseInsitu(copy);
  } else {
    body->document.ParseInsitu<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(copy);
  }
  if (body->document.HasParseError())
    return fail(Word::bad_request, "JSON, byte " + std::to_string(body->document.GetErrorOffset()) + ": " +
                                       rapidjson::GetParseError_En(body->document.GetParseError()));
  const bool escapes = text.find('\\') != text.npos;
  if (const char* complaint = complaint_about(body->document, escapes, 0))
    return fail(Word::bad_request, std::string("the JSON ") + complaint);
  return JsonDocument{std::move(body)};
}

JsonView JsonDocument::root() const {
  const rapidjson::Value& value = body_->document;
  return JsonView{&value};
}
}  // namespace ipc
