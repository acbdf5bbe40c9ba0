// A [tls.NAME] profile as it arrives with a dial or listen, taken apart and checked.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "ipc/json.hh"
#include "ipc/loop.hh"

namespace tlsd {

enum class Role : std::uint8_t { client, server };
/// What is asked of the peer's certificate.
enum class Verify : std::uint8_t { full, pins, none };
enum class ClientAuth : std::uint8_t { none, request, require };
enum class Ktls : std::uint8_t { off, relay, direct };

/// SHA-256 of a SubjectPublicKeyInfo.
using Pin = std::array<unsigned char, 32>;

struct Settings {
  std::string certificate{}, private_key{};  ///< PEM files: the chain, leaf first; its key
  std::vector<std::string> ca{};             ///< PEM files or hashed directories; empty: the system's store
  std::vector<std::string> client_ca{};      ///< who may vouch for clients of a listener
  std::vector<std::string> crl{};            ///< revocation lists
  std::vector<Pin> pins{};
  std::string psk_file{};
  std::string identity{};                           ///< of our key in psk_file, where the URI names none
  std::string server_name{};                        ///< sent and verified instead of the URI's host
  std::string ciphers{}, ciphersuites{}, groups{};  ///< OpenSSL's words
  std::string keylog{};
  std::vector<std::string> alpn{};
  Verify verify = Verify::full;
  ClientAuth client_auth = ClientAuth::none;
  Ktls ktls = Ktls::relay;
  bool tls12 = true, tls13 = true;
  bool session_cache = true;
  ipc::Milliseconds session_lifetime{7'200'000};
  ipc::Milliseconds handshake_timeout{0};  ///< 0: the caller's deadline only
  ipc::Milliseconds idle_timeout{0};       ///< 0: relays may be idle for ever
};

/// BAD_REQUEST names the key that is wrong. Keys that are not of TLS are left alone.
ipc::Result<Settings> parse_settings(ipc::JsonView settings);
/// "sha256//BASE64" as curl writes it, "sha256/BASE64", or 64 hex digits.
ipc::Result<Pin> parse_pin(std::string_view text);

}  // namespace tlsd
