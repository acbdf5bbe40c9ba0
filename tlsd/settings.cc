#include "tlsd/settings.hh"

#include <openssl/evp.h>

#include <algorithm>

#include "ipc/name.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::JsonView;
using ipc::Result;
using ipc::Word;

/// Reads the members of a profile; the first that is wrong is kept.
class Reader {
 public:
  explicit Reader(JsonView from) : from_{from} {}

  void text(std::string_view name, std::string& into) {
    const auto value = from_[name];
    if (!value.exists()) return;
    if (!value.is_string()) return wrong(name, "is no string");
    into = value.string_or("");
  }

  void list(std::string_view name, std::vector<std::string>& into) {
    const auto value = from_[name];
    if (value.is_string()) into.emplace_back(value.string_or(""));
    if (value.is_array()) into = value.strings();
    if (value.exists() && !value.is_string() && (!value.is_array() || into.size() != value.size()))
      wrong(name, "is neither a string nor an array of strings");
  }

  template <class Enum, std::size_t count>
  void choice(std::string_view name, const std::array<std::string_view, count>& words, Enum& into) {
    const auto value = from_[name];
    if (!value.exists()) return;
    const auto found = std::ranges::find(words, value.string_or(""));
    if (found == words.end()) return wrong(name, "is none of its words");
    into = static_cast<Enum>(found - words.begin());
  }

  void flag(std::string_view name, bool& into) {
    const auto value = from_[name];
    if (value.exists() && !value.boolean()) return wrong(name, "is neither true nor false");
    into = value.boolean_or(into);
  }

  void milliseconds(std::string_view name, ipc::Milliseconds& into) {
    constexpr std::int64_t longest = 7LL * 24 * 3600 * 1000;
    const auto value = from_[name];
    if (!value.exists()) return;
    if (value.integer_or(-1) < 0) return wrong(name, "is no number of milliseconds");
    into = ipc::Milliseconds{std::min(value.integer_or(0), longest)};
  }

  void wrong(std::string_view name, std::string_view why) {
    if (error_.empty()) error_ = "tls profile: " + std::string(name) + " " + std::string(why);
  }
  const std::string& error() const { return error_; }

 private:
  JsonView from_;
  std::string error_;
};

void read_versions(Reader& reader, Settings& settings) {
  std::vector<std::string> versions;
  reader.list("versions", versions);
  if (versions.empty()) return;
  settings.tls12 = std::ranges::find(versions, "1.2") != versions.end();
  settings.tls13 = std::ranges::find(versions, "1.3") != versions.end();
  const auto known = static_cast<std::size_t>(settings.tls12) + static_cast<std::size_t>(settings.tls13);
  if (known != versions.size()) reader.wrong("versions", "takes \"1.2\" and \"1.3\"");
}

void read_pins(Reader& reader, Settings& settings) {
  std::vector<std::string> texts;
  reader.list("pins", texts);
  for (const auto& text : texts) {
    const auto pin = parse_pin(text);
    if (!pin) return reader.wrong("pins", pin.error().text);
    settings.pins.push_back(*pin);
  }
}

void read_alpn(Reader& reader, Settings& settings) {
  reader.list("alpn", settings.alpn);
  for (const auto& protocol : settings.alpn) {
    if (protocol.empty() || protocol.size() > 255)
      reader.wrong("alpn", "holds a name of no or over 255 bytes");
    if (protocol == "plumb/1") reader.wrong("alpn", "cannot hold plumb/1: `ktls = \"direct\"` offers it");
  }
}

void read_client_auth(Reader& reader, Settings& settings) {
  constexpr std::array<std::string_view, 3> words{"none", "request", "require"};
  if (!settings.client_ca.empty()) settings.client_auth = ClientAuth::require;
  reader.choice("client_auth", words, settings.client_auth);
}

constexpr std::size_t digest_in_base64 = 44;

std::optional<std::string> hex_bytes(std::string_view text) {
  long size = 0;
  std::string digits{text};
  unsigned char* bytes = OPENSSL_hexstr2buf(digits.c_str(), &size);
  if (bytes == nullptr) return std::nullopt;
  std::string result(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return result;
}

std::optional<std::string> base64_bytes(std::string_view text) {
  if (text.size() != digest_in_base64) return std::nullopt;
  std::string bytes(33, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(digest_in_base64));
  if (size != 33 || !text.ends_with('=')) return std::nullopt;
  bytes.pop_back();
  return bytes;
}
}  // namespace

Result<Pin> parse_pin(std::string_view text) {
  auto digits = text;
  // BASE64 may begin with a slash itself: the length tells.
  for (const std::string_view prefix : {"sha256//", "sha256/", "sha256:"})
    if (text.starts_with(prefix) && text.size() >= prefix.size() + digest_in_base64) {
      digits.remove_prefix(prefix.size());
      break;
    }
  const auto bytes = digits.size() == 64 ? hex_bytes(digits) : base64_bytes(digits);
  Pin pin;
  if (!bytes || bytes->size() != pin.size())
    return fail(Word::bad_request, "holds " + ipc::printable(text, 80) +
                                       ", which is no SHA-256 of a public key: write sha256//BASE64");
  std::ranges::copy(*bytes, pin.begin());
  return pin;
}

Result<Settings> parse_settings(JsonView from) {
  constexpr std::array<std::string_view, 3> verify{"full", "pins", "none"};
  constexpr std::array<std::string_view, 3> ktls{"off", "relay", "direct"};
  Settings settings;
  Reader reader{from};
  reader.text("certificate", settings.certificate);
  reader.text("private_key", settings.private_key);
  reader.list("ca", settings.ca);
  reader.list("client_ca", settings.client_ca);
  reader.list("crl", settings.crl);
  reader.text("psk_file", settings.psk_file);
  reader.text("identity", settings.identity);
  reader.text("server_name", settings.server_name);
  reader.text("ciphers", settings.ciphers);
  reader.text("ciphersuites", settings.ciphersuites);
  reader.text("groups", settings.groups);
  reader.text("keylog", settings.keylog);
  reader.choice("verify", verify, settings.verify);
  reader.choice("ktls", ktls, settings.ktls);
  reader.flag("session_cache", settings.session_cache);
  reader.milliseconds("session_lifetime_ms", settings.session_lifetime);
  reader.milliseconds("handshake_timeout_ms", settings.handshake_timeout);
  reader.milliseconds("idle_timeout_ms", settings.idle_timeout);
  read_client_auth(reader, settings);
  read_versions(reader, settings);
  read_pins(reader, settings);
  read_alpn(reader, settings);
  if (settings.private_key.empty()) settings.private_key = settings.certificate;  // both in one file
  if (settings.certificate.empty() && !settings.private_key.empty())
    reader.wrong("private_key", "is of no use without certificate");
  if (settings.verify == Verify::pins && settings.pins.empty())
    reader.wrong("verify", "= \"pins\" needs pins");
  if (!reader.error().empty()) return fail(Word::bad_request, reader.error());
  return settings;
}
}  // namespace tlsd
