// The TLS half of the benchmark kit: the limit (OpenSSL's client straight to OpenSSL's server) and the floor
// (a bare relay). A program of its own, so that the clients of brokers do not pay for loading OpenSSL.
#pragma once
#include <openssl/ssl.h>

#include <memory>

#include "tests/bench/bench.hh"

namespace bench::tls {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using Context = std::unique_ptr<SSL_CTX, Release<SSL_CTX_free>>;
using Connection = std::unique_ptr<SSL, Release<SSL_free>>;
using Session = std::unique_ptr<SSL_SESSION, Release<SSL_SESSION_free>>;

/// One session to resume with, the newest; empty before the first.
struct Kept {
  Session session;
  /// From now on; `this` must outlive the context.
  void take_from(SSL_CTX* context);
};

/// Prints OpenSSL's reason after `what` and exits 1.
[[noreturn]] void die_tls(std::string_view what);
/// `pem`: chain and key in one file.
Context server_context(const std::string& pem);
/// Verifies against `ca`; empty: against the system's store.
Context client_context(const std::string& ca);
/// The connection on `socket`, which stays the caller's; its handshake has not begun. A client expects
/// 127.0.0.1.
Connection on_socket(SSL_CTX* context, int socket, bool client);

int far_main(const std::vector<std::string>& words);
int floor_main(const std::vector<std::string>& words);
int dial_main(const std::vector<std::string>& words);
int bulk_main(const std::vector<std::string>& words);
int once_main(const std::vector<std::string>& words);
int runs_main(const std::vector<std::string>& words);

}  // namespace bench::tls
