#include "utf8.hh"

#include <cstring>

namespace ipc {
namespace {
unsigned char byte_at(std::string_view text, std::size_t at) {
  return at < text.size() ? static_cast<unsigned char>(text[at]) : 0;
}

bool is_between(unsigned char byte, unsigned low, unsigned high) { return byte >= low && byte <= high; }

/// The length of the character at the beginning of `text`, by the table of RFC 3629, section 4; 0: none.
std::size_t length_of_character(std::string_view text) {
  const auto lead = byte_at(text, 0);
  const auto second = byte_at(text, 1);
  const auto continues = [&](std::size_t at) { return is_between(byte_at(text, at), 0x80, 0xbf); };
  if (lead < 0x80) return 1;
  if (is_between(lead, 0xc2, 0xdf)) return continues(1) ? 2 : 0;
  if (is_between(lead, 0xe0, 0xef)) {
    const unsigned low = lead == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = lead == 0xed ? 0x9f : 0xbf;
    return is_between(second, low, high) && continues(2) ? 3 : 0;
  }
  if (!is_between(lead, 0xf0, 0xf4)) return 0;
  const unsigned low = lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xf4 ? 0x8f : 0xbf;
  return is_between(second, low, high) && continues(2) && continues(3) ? 4 : 0;
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
}  // namespace

bool is_utf8(std::string_view text) {
  if (is_ascii(text)) return true;
  while (!text.empty()) {
    const auto length = length_of_character(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

char* put_utf8(char* out, std::uint32_t code) {
  const auto put = [&out](std::uint32_t byte) { *out++ = static_cast<char>(byte); };
  const auto put_last = [&](unsigned shift) { put(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put_last(0);
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put_last(6);
    put_last(0);
  } else {
    put(0xf0 | code >> 18);
    put_last(12);
    put_last(6);
    put_last(0);
  }
  return out;
}
}  // namespace ipc
