// Stapled OCSP responses (RFC 6066, section 8; RFC 6960).
#pragma once
#include <string>

#include "tlsd/openssl.hh"

namespace tlsd {

struct Staple {
  bool good = false;    ///< a valid response says so
  std::string fault{};  ///< why the connection must not go on; empty: it may
};
/// Judges what the server sent. Nothing sent, or a response that is merely too old, decides nothing, unless
/// the certificate demands a staple (RFC 7633).
Staple check_staple(SSL* ssl);

}  // namespace tlsd
