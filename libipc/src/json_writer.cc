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

/// In one step: messages are made of little else.
void append_quoted(std::string& out, std::string_view text) {
  const auto before = out.size();
  out.resize_and_overwrite(before + text.size() + 2, [&](char* data, std::size_t size) {
    data[before] = '"';
    std::copy(text.begin(), text.end(), data + before + 1);
    data[size - 1] = '"';
    return size;
  });
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
  if (is_plain(value)) {
    append_quoted(out_, value);
  } else if (is_utf8(value)) {
    append_quoted(out_, escaped(value));
  } else {
    append_quoted(out_, escaped(repaired(value)));
  }
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
}  // namespace ipc
