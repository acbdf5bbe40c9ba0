#include "tlsd/authenticate.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "tlsd/fault.hh"
#include "tlsd/names.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Labels;
using ipc::Result;
using ipc::Word;

/// Whether the handshake rests on a pre-shared key. In TLS 1.3 that looks like a resumption; where keys are
/// used we neither give nor take tickets.
bool rests_on_psk(const Session& session) {
  const auto* ssl = session.raw();
  if (session.facts().identity.empty()) return false;
  if (SSL_version(ssl) >= TLS1_3_VERSION) return SSL_session_reused(ssl) == 1;
  return SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(ssl)) == NID_auth_psk;
}

Result<> check_key(const Session& session) {
  const auto& facts = session.facts();
  if (!facts.psk || rests_on_psk(session)) return {};
  return fail(Word::auth, key_not_taken(session));
}

Result<> check_pins(const Session& session, const X509* certificate) {
  const auto& facts = session.facts();
  const auto& pins = facts.context->settings().pins;
  if (pins.empty() || std::ranges::find(pins, public_key_pin(certificate)) != pins.end()) return {};
  return fail(Word::auth, "the certificate of " + facts.peer + " has a key that is none of `pins`");
}

Result<> check_certificate(const Session& session, const X509* certificate) {
  const auto& facts = session.facts();
  const bool full = facts.context->verify() == Verify::full;
  if (full && SSL_get_verify_result(session.raw()) != X509_V_OK)
    return fail(Word::auth, "the certificate of " + facts.peer + " is not accepted: " +
                                X509_verify_cert_error_string(SSL_get_verify_result(session.raw())));
  // A resumed session skips the verification, not the calendar.
  if (full && X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
    return fail(Word::auth, "the certificate of " + facts.peer + " has expired since the session began");
  return check_pins(session, certificate);
}

bool must_show_certificate(const Facts& facts) {
  const auto& context = *facts.context;
  if (context.role() == Role::server) return context.settings().client_auth == ClientAuth::require;
  return context.verify() != Verify::none;
}

Result<> check_peer(const Session& session, const X509* certificate) {
  const auto& facts = session.facts();
  if (rests_on_psk(session)) return {};
  if (certificate != nullptr) return check_certificate(session, certificate);
  if (!must_show_certificate(facts)) return {};
  return fail(Word::auth, facts.peer + " showed no certificate, and one is required");
}

/// Only what an authority has vouched for may become a name that rules believe; a pin vouches for the key.
void add_certificate(Labels& labels, const X509* certificate, Verify verified) {
  if (verified == Verify::none) return;
  labels["cert.fingerprint"] = fingerprint_of(certificate);
  if (verified == Verify::pins) return;
  std::string all;
  const auto names = names_in(certificate);
  for (const auto& name : names) all += (all.empty() ? "" : " ") + name;
  if (!names.empty()) labels["cert.name"] = names.front();
  if (!names.empty()) labels["cert.names"] = all;
  labels["cert.issuer"] = issuer_of(certificate);
}

void add_protocol(Labels& labels, const SSL* ssl) {
  labels["tls.version"] = SSL_get_version(ssl);
  if (const auto* cipher = SSL_get_current_cipher(ssl); cipher != nullptr)
    labels["tls.cipher"] = SSL_CIPHER_standard_name(cipher);
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  if (size > 0) labels["tls.alpn"] = ipc::printable({reinterpret_cast<const char*>(protocol), size}, 64);
}
}  // namespace

Result<Labels> authenticate_peer(const Session& session) {
  const auto& facts = session.facts();
  const Certificate certificate{SSL_get1_peer_certificate(session.raw())};
  TRY(check_key(session));
  TRY(check_peer(session, certificate.get()));
  Labels labels;
  add_protocol(labels, session.raw());
  if (rests_on_psk(session)) labels["psk.identity"] = ipc::printable(facts.identity, 128);
  if (certificate && !rests_on_psk(session))
    add_certificate(labels, certificate.get(), facts.context->verify());
  return labels;
}
}  // namespace tlsd
