// OpenSSL's objects behind owning types, and its error queue as text.
#pragma once
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

namespace tlsd {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using SslCtx = std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>>;
using Ssl = std::unique_ptr<SSL, Release<SSL_free>>;
using SslSession = std::unique_ptr<SSL_SESSION, Release<SSL_SESSION_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using Crl = std::unique_ptr<X509_CRL, Release<X509_CRL_free>>;
using Store = std::unique_ptr<X509_STORE, Release<X509_STORE_free>>;
using Bio = std::unique_ptr<BIO, Release<BIO_free_all>>;

/// The first entry of this thread's error queue in OpenSSL's words ("certificate verify failed"), or
/// "unknown reason"; empties the queue.
inline std::string take_reason() {
  const auto code = ERR_peek_error();
  const char* text = code != 0 ? ERR_reason_error_string(code) : nullptr;
  std::string reason = text != nullptr ? text : "unknown reason";
  ERR_clear_error();
  return reason;
}

/// Nothing of a record was read that is not done with: all that is buffered may go, and whoever reads the
/// socket next begins with a whole record.
inline bool is_between_records(const SSL* ssl) {
  return std::string_view{SSL_rstate_string(ssl)} == "RH" && SSL_has_pending(ssl) == 0;
}

/// What a memory BIO has collected.
inline std::string text_of(BIO* bio) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace tlsd
