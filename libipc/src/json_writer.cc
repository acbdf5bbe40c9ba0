#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "ipc/json.hh"
#include "utf8.hh"

namespace ipc {
namespace {
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

std::string escaped(std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  std::string out;
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
  return out;
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
  if (needs_comma()) out_ += ',';
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

/// `plain`, in quotes, with a comma before it where one is due; in one step, as messages are made of little
/// else.
void JsonWriter::quote(std::string_view plain, char behind) {
  const bool comma = needs_comma();
  first_ = after_key_ = false;
  const auto before = out_.size();
  const auto after = before + plain.size() + 2 + (comma ? 1 : 0) + (behind != 0 ? 1 : 0);
  out_.resize_and_overwrite(after, [&](char* data, std::size_t) {
    char* at = data + before;
    if (comma) *at++ = ',';
    *at++ = '"';
    at = std::copy(plain.begin(), plain.end(), at);
    *at++ = '"';
    if (behind != 0) *at = behind;
    return after;  // not the second parameter: libstdc++ 12 gives the capacity where it grew
  });
}

void JsonWriter::escape(std::string_view text, char behind) {
  quote(escaped(is_utf8(text) ? std::string(text) : repaired(text)), behind);
}

JsonWriter& JsonWriter::key(JsonKey name) {
  name.is_plain || is_plain(name.text) ? quote(name.text, ':') : escape(name.text, ':');
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::string(std::string_view value) {
  is_plain(value) ? quote(value, 0) : escape(value, 0);
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

JsonWriter& JsonWriter::add(JsonKey name, const Labels& labels) {
  key(name).object();
  for (const auto& [label, value] : labels) add(label, value);
  return end();
}
}  // namespace ipc
