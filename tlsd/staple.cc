#include "tlsd/staple.hh"

namespace tlsd {
namespace {
using Response = std::unique_ptr<OCSP_RESPONSE, Release<OCSP_RESPONSE_free>>;
using Basic = std::unique_ptr<OCSP_BASICRESP, Release<OCSP_BASICRESP_free>>;
using CertId = std::unique_ptr<OCSP_CERTID, Release<OCSP_CERTID_free>>;
constexpr long clock_skew = 300;  // seconds

bool demands_staple(const X509* certificate) {
  return X509_get_ext_by_NID(certificate, NID_tlsfeature, -1) >= 0;
}

const X509* issuer_of(X509* certificate, STACK_OF(X509) * chain) {
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    auto* candidate = sk_X509_value(chain, i);
    if (candidate != certificate && X509_check_issued(candidate, certificate) == X509_V_OK) return candidate;
  }
  return nullptr;
}

/// V_OCSP_CERTSTATUS_...; -1 when the response is signed by nobody we trust, -2 when it is too old or of
/// another certificate.
int status_in(OCSP_BASICRESP* basic, SSL* ssl, X509* leaf, STACK_OF(X509) * chain) {
  auto* store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
  if (OCSP_basic_verify(basic, chain, store, OCSP_PARTIAL_CHAIN) != 1) return -1;
  const auto* issuer = issuer_of(leaf, chain);
  if (issuer == nullptr) return -2;
  for (int i = 0; i < OCSP_resp_count(basic); ++i) {
    auto* single = OCSP_resp_get0(basic, i);
    const ASN1_OBJECT* digest = nullptr;
    const auto* id = OCSP_SINGLERESP_get0_id(single);
    OCSP_id_get0_info(nullptr, const_cast<ASN1_OBJECT**>(&digest), nullptr, nullptr,
                      const_cast<OCSP_CERTID*>(id));
    const CertId wanted{OCSP_cert_to_id(EVP_get_digestbyobj(digest), leaf, issuer)};
    if (!wanted || OCSP_id_cmp(wanted.get(), id) != 0) continue;
    ASN1_GENERALIZEDTIME *since = nullptr, *until = nullptr;
    const int status = OCSP_single_get0_status(single, nullptr, nullptr, &since, &until);
    return OCSP_check_validity(since, until, clock_skew, -1) == 1 ? status : -2;
  }
  return -2;
}

int status_of(SSL* ssl, X509* leaf) {
  const unsigned char* bytes = nullptr;
  const auto size = SSL_get_tlsext_status_ocsp_resp(ssl, &bytes);
  if (size <= 0) return -2;
  const Response response{d2i_OCSP_RESPONSE(nullptr, &bytes, size)};
  if (!response) return -1;
  if (OCSP_response_status(response.get()) != OCSP_RESPONSE_STATUS_SUCCESSFUL) return -2;
  const Basic basic{OCSP_response_get1_basic(response.get())};
  return basic ? status_in(basic.get(), ssl, leaf, SSL_get0_verified_chain(ssl)) : -1;
}
}  // namespace

Staple check_staple(SSL* ssl) {
  const Certificate leaf{SSL_get1_peer_certificate(ssl)};
  if (!leaf || SSL_session_reused(ssl) == 1) return {.good = true};
  const int status = status_of(ssl, leaf.get());
  ERR_clear_error();
  if (status == V_OCSP_CERTSTATUS_GOOD) return {.good = true};
  if (status == V_OCSP_CERTSTATUS_REVOKED) return {.fault = "was revoked (says the stapled OCSP response)"};
  if (status == -1) return {.fault = "came with a stapled OCSP response that nobody trusted has signed"};
  if (demands_staple(leaf.get())) return {.fault = "demands a stapled OCSP response, and no valid one came"};
  return {};
}
}  // namespace tlsd
