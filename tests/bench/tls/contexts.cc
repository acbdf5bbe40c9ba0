// OpenSSL as its own documentation would set it up: TLS 1.3 or 1.2, everything verified.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>

#include "tests/bench/tls/tls.hh"

namespace bench::tls {

void die_tls(std::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  std::fprintf(stderr, "tls-bench: %.*s: %s\n", static_cast<int>(what.size()), what.data(),
               reason != nullptr ? reason : "the connection ended");
  std::exit(1);
}

Context server_context(const std::string& pem) {
  Context context{SSL_CTX_new(TLS_server_method())};
  if (SSL_CTX_use_certificate_chain_file(context.get(), pem.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context.get(), pem.c_str(), SSL_FILETYPE_PEM) != 1)
    die_tls(pem);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  return context;
}

Context client_context(const std::string& ca) {
  Context context{SSL_CTX_new(TLS_client_method())};
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  const int loaded = ca.empty() ? SSL_CTX_set_default_verify_paths(context.get())
                                : SSL_CTX_load_verify_file(context.get(), ca.c_str());
  if (loaded != 1) die_tls("trust store");
  return context;
}

void Kept::take_from(SSL_CTX* context) {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  SSL_CTX_set_ex_data(context, index, this);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* fresh) {
    static_cast<Kept*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), index))->session.reset(fresh);
    return 1;
  });
}

Connection on_socket(SSL_CTX* context, int socket, bool client) {
  const int on = 1;  // tickets and the first answer are writes of their own
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  Connection ssl{SSL_new(context)};
  if (!ssl || SSL_set_fd(ssl.get(), socket) != 1) die_tls("SSL_new");
  if (!client) {
    SSL_set_accept_state(ssl.get());
    return ssl;
  }
  SSL_set_connect_state(ssl.get());
  if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), "127.0.0.1") != 1) die_tls("expected name");
  return ssl;
}

}  // namespace bench::tls
