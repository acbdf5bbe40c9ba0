#include "tlsd/callbacks.hh"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "tlsd/staple.hh"

namespace tlsd {
namespace {
Facts& facts_of(const SSL* ssl) { return *static_cast<Facts*>(SSL_get_app_data(ssl)); }

std::optional<std::int64_t> end_in_ticket(SSL_SESSION* session) {
  void* data = nullptr;
  std::size_t size = 0;
  std::int64_t end = 0;
  if (SSL_SESSION_get0_ticket_appdata(session, &data, &size) != 1 || size != sizeof end) return std::nullopt;
  std::memcpy(&end, data, sizeof end);
  return end;
}

/// It is our list that does not let us judge, and the certificate may be good: the alert must not blame it.
bool is_of_list(int error) {
  return error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_CRL_HAS_EXPIRED ||
         error == X509_V_ERR_CRL_NOT_YET_VALID;
}

/// Remembers the first fault and where it was; says whether the handshake may go on.
int on_verify(int passed, X509_STORE_CTX* store) {
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto& facts = facts_of(ssl);
  if (passed == 1) return 1;
  const int error = X509_STORE_CTX_get_error(store);
  const int depth = X509_STORE_CTX_get_error_depth(store);
  // A revocation list need not exist for the authorities above the one that issued the certificate.
  const bool above = error == X509_V_ERR_UNABLE_TO_GET_CRL && depth > 0;
  if (above || facts.context->verify() != Verify::full) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  facts.verify_error = error;
  facts.verify_at_leaf = depth == 0;
  if (auto* at = X509_STORE_CTX_get_current_cert(store); at != nullptr && X509_up_ref(at) == 1)
    facts.verify_at.reset(at);
  if (auto* list = X509_STORE_CTX_get0_current_crl(store); list != nullptr && X509_CRL_up_ref(list) == 1)
    facts.verify_list.reset(list);
  if (is_of_list(error)) X509_STORE_CTX_set_error(store, X509_V_ERR_CRL_PATH_VALIDATION_ERROR);
  return 0;
}

/// Judges the chain of whoever signed a stapled response, in the same store: no list has to cover it.
int on_verify_responder(int passed, X509_STORE_CTX* store) {
  if (passed == 1 || X509_STORE_CTX_get_error(store) != X509_V_ERR_UNABLE_TO_GET_CRL) return passed;
  X509_STORE_CTX_set_error(store, X509_V_OK);
  return 1;
}

unsigned on_psk_client(SSL* ssl, const char*, char* identity, unsigned identity_room, unsigned char* key,
                       unsigned key_room) {
  const auto& facts = facts_of(ssl);
  if (!facts.psk || facts.identity.size() >= identity_room) return 0;
  const auto bytes = facts.psk->bytes();
  if (bytes.size() > key_room) return 0;
  std::memcpy(identity, facts.identity.c_str(), facts.identity.size() + 1);
  std::ranges::copy(bytes, key);
  return static_cast<unsigned>(bytes.size());
}

unsigned on_psk_server(SSL* ssl, const char* identity, unsigned char* key, unsigned key_room) {
  auto& facts = facts_of(ssl);
  if (identity == nullptr) return 0;
  facts.identity = identity;
  const auto* psk = facts.context->psks().find(identity);
  facts.psk_unknown = psk == nullptr;
  if (psk == nullptr || psk->bytes().size() > key_room) return 0;
  std::ranges::copy(psk->bytes(), key);
  return static_cast<unsigned>(psk->bytes().size());
}

/// Takes the session over (returns 1) where it can be used again. However often it is resumed, the handshake
/// that it began with is the one that looked at certificates and lists.
int on_new_session(SSL* ssl, SSL_SESSION* session) {
  auto& facts = facts_of(ssl);
  facts.got_ticket = true;
  if (facts.place.empty()) return 0;
  const auto left = std::min(SSL_SESSION_get_timeout(session),
                             static_cast<long>(facts.session_end - SSL_SESSION_get_time(session)));
  if (left <= 0) return 0;
  SSL_SESSION_set_timeout(session, left);
  facts.context->sessions().put(facts.place, SslSession{session});
  return 1;
}

/// The same for a listener's tickets: they carry the end of the first of them.
int on_ticket_made(SSL* ssl, void*) {
  auto* session = SSL_get_session(ssl);
  if (end_in_ticket(session)) return 1;
  const auto end = facts_of(ssl).context->session_end();
  return SSL_SESSION_set1_ticket_appdata(session, &end, sizeof end);
}

SSL_TICKET_RETURN on_ticket_shown(SSL*, SSL_SESSION* session, const unsigned char*, std::size_t,
                                  SSL_TICKET_STATUS status, void*) {
  if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  if (std::time(nullptr) >= end_in_ticket(session).value_or(0)) return SSL_TICKET_RETURN_IGNORE_RENEW;
  return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/// Only servers that want a certificate make OpenSSL ask for ours.
int on_certificate_wanted(SSL* ssl, void*) {
  facts_of(ssl).asked_for_certificate = true;
  return 1;
}

/// A list of protocols in the wire's form with this one in it.
const std::string agreement = static_cast<char>(plumb_protocol.size()) + std::string(plumb_protocol);

/// `chosen` then points into `ours`.
bool choose(const std::string& ours, std::string_view offered, const unsigned char** chosen,
            unsigned char* length) {
  unsigned char* found = nullptr;
  const int outcome = SSL_select_next_proto(
      &found, length, reinterpret_cast<const unsigned char*>(ours.data()), static_cast<unsigned>(ours.size()),
      reinterpret_cast<const unsigned char*>(offered.data()), static_cast<unsigned>(offered.size()));
  *chosen = found;
  return outcome == OPENSSL_NPN_NEGOTIATED;
}

int on_alpn(SSL* ssl, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
            unsigned size, void*) {
  const auto& facts = facts_of(ssl);
  const std::string_view all{reinterpret_cast<const char*>(offered), size};
  const bool may_agree = facts.may_agree && SSL_version(ssl) == TLS1_3_VERSION;
  if (may_agree && choose(agreement, all, chosen, length)) return SSL_TLSEXT_ERR_OK;
  // Who offers the agreement alone wants no application's protocol.
  if (facts.context->alpn().empty() || all == agreement) return SSL_TLSEXT_ERR_NOACK;
  return choose(facts.context->alpn(), all, chosen, length) ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int on_staple(SSL* ssl, void*) {
  auto& facts = facts_of(ssl);
  if (facts.context->verify() != Verify::full) return 1;
  const auto staple = check_staple(ssl);
  facts.staple_good = staple.good;
  facts.staple_fault = staple.fault;
  return staple.fault.empty() ? 1 : 0;
}

/// The one alert that says what the peer has tried.
void on_info(const SSL* ssl, int where, int value) {
  if ((where & SSL_CB_WRITE_ALERT) == SSL_CB_WRITE_ALERT && (value & 0xff) == SSL_AD_NO_RENEGOTIATION)
    facts_of(ssl).asked_to_renegotiate = true;
}

void on_keylog(const SSL* ssl, const char* line) {
  auto& facts = facts_of(ssl);
  if (facts.records.wanted) note_secret(facts.records, line);
  if (facts.context->keylog() < 0) return;
  const std::string text = std::string(line) + "\n";
  [[maybe_unused]] const auto written =
      ::write(facts.context->keylog(), text.data(), text.size());  // for debugging: best effort
}
}  // namespace

void tell_secrets(Context& context) { SSL_CTX_set_keylog_callback(context.raw(), on_keylog); }

void install_callbacks(Context& context) {
  auto* ctx = context.raw();
  const auto& settings = context.settings();
  if (context.keylog() >= 0) tell_secrets(context);
  SSL_CTX_set_info_callback(ctx, on_info);
  if (context.role() == Role::client) {
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
    X509_STORE_set_verify_cb(SSL_CTX_get_cert_store(ctx), on_verify_responder);
    SSL_CTX_set_cert_cb(ctx, on_certificate_wanted, nullptr);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
    SSL_CTX_set_tlsext_status_cb(ctx, on_staple);
    return;
  }
  if (!context.psks().empty()) SSL_CTX_set_psk_server_callback(ctx, on_psk_server);
  SSL_CTX_set_alpn_select_cb(ctx, on_alpn, nullptr);
  SSL_CTX_set_session_ticket_cb(ctx, on_ticket_made, on_ticket_shown, nullptr);
  if (settings.client_auth == ClientAuth::none) return;
  // Nobody is asked for a certificate whose pre-shared key is taken (RFC 8446, section 4.3.2).
  const bool must = settings.client_auth == ClientAuth::require;
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (must ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), on_verify);
}

bool offer_psk(SSL* ssl) {
  // The hash of an external key is SHA-256 (RFC 8446, 4.2.11); other suites could only lead past the key.
  SSL_set_psk_client_callback(ssl, on_psk_client);
  return SSL_set_ciphersuites(ssl, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") == 1 &&
         SSL_set_cipher_list(ssl, psk_ciphers) == 1;
}
}  // namespace tlsd
