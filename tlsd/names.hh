// What a certificate says of its owner.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "tlsd/openssl.hh"
#include "tlsd/settings.hh"

namespace tlsd {

/// The DNS names (lower case) and IP addresses of subjectAltName; where it has none, a common name that is a
/// plain host name. Wildcards and whatever else a rule could mistake for a host name are left out.
std::vector<std::string> names_in(const X509* certificate);
/// All of them, wildcards too, to be shown to people; at most 160 bytes.
std::string shown_names_in(const X509* certificate);
/// "CN=…,O=…" (RFC 2253), printable and short.
std::string subject_of(const X509* certificate);
std::string issuer_of(const X509* certificate);
/// SHA-256 of the certificate, in hex.
std::string fingerprint_of(const X509* certificate);
/// "2026-01-31 12:00 UTC".
std::string date_of(const ASN1_TIME* time);
Pin public_key_pin(const X509* certificate);

}  // namespace tlsd
