#include "tlsd/fault.hh"

#include <cerrno>

#include "ipc/name.hh"
#include "tlsd/names.hh"
#include "tlsd/session.hh"

namespace tlsd {
namespace {
using ipc::Error;
using ipc::Word;

bool is_client(const Facts& facts) { return facts.context->role() == Role::client; }

std::string expired_list(const Facts& facts) {
  std::string files;
  for (const auto& path : facts.context->settings().crl) files += (files.empty() ? "" : ", ") + path;
  const auto* list = facts.verify_list.get();
  return "the revocation list in " + files + " has expired" +
         (list != nullptr ? " on " + date_of(X509_CRL_get0_nextUpdate(list)) : "") + "; renew it";
}

/// "the certificate of HOST", and for one above it "the authority NAME above …".
std::string what_failed(const Facts& facts) {
  const auto certificate = "the certificate of " + facts.peer;
  if (facts.verify_at_leaf || !facts.verify_at) return certificate;
  return "the authority " + subject_of(facts.verify_at.get()) + " above " + certificate;
}

std::string issuer_remedy(const Facts& facts) {
  return is_client(facts) ? "; name its authority in `ca`" : "; name its authority in `client_ca`";
}

std::string verify_sentence(const Facts& facts) {
  const auto* at = facts.verify_at.get();
  const auto what = what_failed(facts);
  switch (facts.verify_error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return what + " has expired on " + (at != nullptr ? date_of(X509_get0_notAfter(at)) : "");
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return what + " is not yet valid: it begins on " +
             (at != nullptr ? date_of(X509_get0_notBefore(at)) : "");
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return what + " has the wrong name: it is for " + (at != nullptr ? shown_names_in(at) : "another name");
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return what + " is self-signed and not trusted" + issuer_remedy(facts);
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return "the certificate of " + facts.peer + " leads to an unknown issuer: the self-signed " +
             (at != nullptr ? subject_of(at) : "authority") + " is not trusted" + issuer_remedy(facts);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return what + " has an unknown issuer" + (at != nullptr ? ": " + issuer_of(at) : "") +
             issuer_remedy(facts);
    case X509_V_ERR_CERT_REVOKED:
      return what + " was revoked";
    case X509_V_ERR_INVALID_PURPOSE:
      return what + " has the wrong purpose: it is not meant for a " +
             (is_client(facts) ? "server" : "client");
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
      return what + " has a weak key";
    case X509_V_ERR_CA_MD_TOO_WEAK:
      return what + " has a weak signature";
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return what + " has a wrong signature";
    case X509_V_ERR_UNABLE_TO_GET_CRL:
      return what + " cannot be checked: no list in `crl` is of its issuer" +
             (at != nullptr ? " " + issuer_of(at) : "");
    case X509_V_ERR_CRL_HAS_EXPIRED:
      return what + " cannot be checked: " + expired_list(facts);
    default:
      return what + " is not accepted: " + X509_verify_cert_error_string(facts.verify_error);
  }
}

/// Whoever has keys in a file may have thought that one of them was offered.
std::string unused_key(const Facts& facts) {
  const auto& settings = facts.context->settings();
  if (!is_client(facts) || settings.psk_file.empty() || !settings.identity.empty()) return {};
  return "; no key of psk_file was offered: name its identity in the URI, as in tls://identity@host, or with "
         "identity = in the profile";
}

constexpr int first_alert = SSL_AD_REASON_OFFSET;
const std::string wants_certificate =
    "it wants a certificate of us; name one in the [tls.NAME] profile of the route";

/// What the far side's alert means, seen from here; an empty string for alerts that are not of
/// authentication.
std::string alert_sentence(int alert, const Facts& facts) {
  const bool showed_nothing = facts.asked_for_certificate && facts.context->settings().certificate.empty();
  switch (alert) {
    case SSL_AD_CERTIFICATE_EXPIRED:
      return "our certificate has expired";
    case SSL_AD_CERTIFICATE_REVOKED:
      return "our certificate was revoked";
    case SSL_AD_UNKNOWN_CA:
      return "our certificate has an issuer it does not know";
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
      return showed_nothing ? wants_certificate : "our certificate is not accepted";
    case SSL3_AD_NO_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REQUIRED:
      return wants_certificate;
    case SSL_AD_ACCESS_DENIED:
      return "access denied";
    case SSL_AD_UNKNOWN_PSK_IDENTITY:
      return "it has no pre-shared key for our identity";
    case SSL_AD_ILLEGAL_PARAMETER:  // OpenSSL's word for a wrong binder
      return facts.psk ? "the pre-shared key is wrong" : "";
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_BAD_RECORD_MAC:
      return facts.psk || !facts.identity.empty() ? "the pre-shared key is wrong"
                                                  : "a signature or key is wrong";
    case SSL_AD_HANDSHAKE_FAILURE:
      if (facts.psk) return "it does not take our pre-shared key";
      // What TLS 1.2 has for it: whoever asks for a certificate has found the ciphers to suit.
      return (showed_nothing ? wants_certificate : "no cipher, key or certificate suits both sides") +
             unused_key(facts);
    case SSL_AD_INSUFFICIENT_SECURITY:
      return "our ciphers or keys are too weak for it";
    case SSL_AD_PROTOCOL_VERSION:
      return "no TLS version suits both sides; 1.2 is the oldest that we speak (version too old)";
    case SSL_AD_NO_APPLICATION_PROTOCOL:
      return "no ALPN protocol suits both sides";
    default:
      return {};
  }
}

Error alert_fault(int reason, const Facts& facts) {
  const auto sentence = alert_sentence(reason - first_alert, facts);
  if (!sentence.empty())
    return {.word = Word::auth, .text = facts.peer + " refused the TLS handshake: " + sentence};
  const char* name = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
  return {.word = Word::unreachable,
          .text = facts.peer + " ended the TLS connection: " + (name != nullptr ? name : "unknown alert")};
}

/// What our own OpenSSL found wrong.
Error local_fault(int reason, const Facts& facts) {
  const auto auth = [&](std::string text) { return Error{.word = Word::auth, .text = std::move(text)}; };
  switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return auth(facts.peer + " showed no client certificate, and one is required");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return auth(facts.peer + " offers no TLS version that is allowed here (version too old)");
    case SSL_R_BINDER_DOES_NOT_VERIFY:
      return auth(facts.peer + " has a wrong pre-shared key for the identity " +
                  ipc::printable(facts.identity, 64));
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_DIGEST_CHECK_FAILED:
      if (facts.identity.empty()) break;
      return auth(facts.peer + " has a wrong pre-shared key for the identity " +
                  ipc::printable(facts.identity, 64));
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_PSK_IDENTITY_NOT_FOUND:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
      if (facts.psk_unknown)
        return auth(facts.peer + " named the identity " + ipc::printable(facts.identity, 64) +
                    ", for which psk_file has no key");
      return auth("no cipher, key or certificate suits both " + facts.peer + " and us");
    case SSL_R_DH_KEY_TOO_SMALL:
    case SSL_R_WRONG_SIGNATURE_TYPE:
    case SSL_R_WRONG_CIPHER_RETURNED:
    case SSL_R_EE_KEY_TOO_SMALL:
      return auth(facts.peer + " uses a weak key or signature");
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return auth("no ALPN protocol suits both " + facts.peer + " and us");
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return {.word = Word::unreachable,
              .text = facts.peer + " closed the connection within the TLS handshake"};
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
      return {.word = Word::unreachable, .text = facts.peer + " does not speak TLS"};
    default:
      break;
  }
  const char* text = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, reason));
  return {.word = Word::unreachable,
          .text = "the TLS handshake with " + facts.peer +
                  " failed: " + (text != nullptr ? text : "unknown reason")};
}

Error fault_of(const Facts& facts) {
  const auto code = ERR_peek_error();
  const int saved = errno;
  ERR_clear_error();
  const int reason = ERR_GET_REASON(code);
  if (code == 0 || ERR_GET_LIB(code) == ERR_LIB_SYS)
    return {.word = Word::unreachable,
            .text = facts.peer + " cut the connection within the TLS handshake" +
                    (saved != 0 ? ": " + ipc::errno_text(saved) : "")};
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > first_alert) return alert_fault(reason, facts);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL) return local_fault(reason, facts);
  const char* text = ERR_reason_error_string(code);
  return {.word = Word::unreachable,
          .text = "the TLS handshake with " + facts.peer +
                  " failed: " + (text != nullptr ? text : "unknown reason")};
}
}  // namespace

std::string key_not_taken(const Session& session) {
  const auto& facts = session.facts();
  return facts.peer + " did not take the pre-shared key of " + ipc::printable(facts.identity, 64);
}

Error fault_in_handshake(const Session& session) {
  const auto& facts = session.facts();
  const bool shown = facts.verify_error != X509_V_OK || !facts.staple_fault.empty();
  if (shown && facts.psk) {
    ERR_clear_error();
    return {.word = Word::auth,
            .text = key_not_taken(session) + " and showed a certificate, which does not count beside a key"};
  }
  if (facts.verify_error != X509_V_OK) {
    ERR_clear_error();
    return {.word = Word::auth, .text = verify_sentence(facts)};
  }
  if (!facts.staple_fault.empty()) {
    ERR_clear_error();
    return {.word = Word::auth, .text = "the certificate of " + facts.peer + " " + facts.staple_fault};
  }
  return fault_of(facts);
}

Error fault_after_handshake(const Session& session) {
  if (session.facts().asked_to_renegotiate) {
    ERR_clear_error();
    return {.word = Word::unreachable,
            .text = session.facts().peer + " wanted to renegotiate, which is not done, and left"};
  }
  const auto code = ERR_peek_error();
  const bool ended = code == 0 || ERR_GET_LIB(code) == ERR_LIB_SYS ||
                     ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
  if (!ended) return fault_of(session.facts());
  ERR_clear_error();
  return {
      .word = Word::unreachable,
      .text = session.facts().peer + " ended the connection without TLS's close_notify: it may be truncated"};
}
}  // namespace tlsd
