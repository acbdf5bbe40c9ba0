#include "tlsd/psk.hh"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>

#include "ipc/name.hh"

namespace tlsd {
namespace {
constexpr std::size_t least_bytes = 16;
constexpr std::size_t least_hex = 32;
constexpr std::size_t most_bytes = 256;  // OpenSSL's bound for a key
constexpr std::size_t longest_identity = 128;

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool is_hex_key(std::string_view secret) {
  return secret.size() >= least_hex && secret.size() % 2 == 0 &&
         std::ranges::all_of(secret, [](char c) { return digit_of(c) >= 0; });
}

std::vector<unsigned char> from_hex(std::string_view digits) {
  std::vector<unsigned char> bytes(digits.size() / 2);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<unsigned char>(digit_of(digits[2 * i]) << 4 | digit_of(digits[2 * i + 1]));
  return bytes;
}
}  // namespace

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

Psk& Psk::operator=(Psk&& from) noexcept {
  std::swap(bytes_, from.bytes_);
  return *this;
}
Psk::~Psk() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

ipc::Result<Psk> psk_from(std::string_view secret) {
  std::vector<unsigned char> bytes;
  if (is_hex_key(secret)) {
    bytes = from_hex(secret);
  } else {
    bytes.assign(secret.begin(), secret.end());
  }
  if (bytes.size() < least_bytes)
    return ipc::fail(ipc::Word::bad_request,
                     "the pre-shared key is too short: it needs 16 bytes or 32 hex digits; `plumb psk new` "
                     "draws one");
  if (bytes.size() > most_bytes) return ipc::fail(ipc::Word::bad_request, "the pre-shared key is too long");
  return Psk{std::move(bytes)};
}

bool is_weak(std::string_view secret) {
  std::array<bool, 256> seen{};
  for (const char c : secret) seen[static_cast<unsigned char>(c)] = true;
  const auto distinct = std::ranges::count(seen, true);
  const bool words =
      std::ranges::all_of(secret, [](char c) { return (c >= 'a' && c <= 'z') || c == '-' || c == ' '; });
  return distinct < 8 || (secret.size() < least_hex && (words || distinct < 12));
}

ipc::Result<PskTable> PskTable::parse(std::string text, std::string_view file) {
  PskTable table;
  std::size_t number = 0;
  const auto wrong = [&](std::string_view why) {
    return ipc::fail(ipc::Word::bad_request,
                     std::string(file) + ":" + std::to_string(number) + ": " + std::string(why));
  };
  for (std::string_view rest{text}; !rest.empty();) {
    ++number;
    const auto end = std::min(rest.find('\n'), rest.size());
    auto line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const auto colon = line.find(':');
    if (colon == 0 || colon == line.npos || colon > longest_identity)
      return wrong("a line is identity:secret");
    const auto identity = line.substr(0, colon), secret = line.substr(colon + 1);
    if (ipc::printable(identity) != identity)
      return wrong("an identity is printable ASCII, so that rules, labels and logs write it in one way");
    auto key = psk_from(secret);
    if (!key) return wrong(key.error().text);
    if (!table.keys_.emplace(identity, std::move(*key)).second)
      return wrong("this identity has a key already");
    if (is_weak(secret)) table.weak_.emplace_back(ipc::printable(identity, 64));
  }
  wipe(text);
  return table;
}

const Psk* PskTable::find(std::string_view identity) const {
  const auto found = keys_.find(identity);
  return found == keys_.end() ? nullptr : &found->second;
}
}  // namespace tlsd
