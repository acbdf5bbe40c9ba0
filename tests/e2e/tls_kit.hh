// Certificates made on the spot, and TLS far ends in this process that are OpenSSL and nothing of ours.
#pragma once
#include <string>
#include <vector>

#include "tests/e2e/scripted_router.hh"
#include "tlsd/openssl.hh"

namespace kit {

using Key = std::unique_ptr<EVP_PKEY, tlsd::Release<EVP_PKEY_free>>;

/// PEM files of a certificate and its key.
struct Issued {
  std::string certificate;
  std::string key;
  std::string fingerprint;  ///< SHA-256 of the certificate, hex
  std::string pin;          ///< sha256//BASE64 of the public key
};

/// What a certificate is to say.
struct Wanted {
  std::vector<std::string> names{"localhost"};  ///< subjectAltName entries as in openssl.cnf, "DNS:" assumed
  std::string common_name = "somebody";
  long from = -3600;  ///< seconds from now
  long until = 24L * 3600;
  std::string usage{};  ///< extendedKeyUsage
  int rsa_bits = 0;     ///< 0: P-256
  const char* digest = "SHA256";
  int common_name_type = MBSTRING_UTF8;  ///< or the type of ASN.1 string whose bytes it is
};

/// A certification authority in a scratch directory.
class Authority {
 public:
  explicit Authority(const TempDir& dir, std::string name = "ca");
  const std::string& certificate() const { return certificate_; }
  Issued issue(const std::string& file, const Wanted& wanted = {});
  /// A revocation list of these certificates (PEM files), good until so many seconds from now.
  std::string revocations(const std::vector<std::string>& certificates, long until = 30L * 24 * 3600);

 private:
  const TempDir& dir_;
  std::string name_;
  std::string certificate_;
  Key key_;
  tlsd::Certificate self_;
  long serial_ = 100;
};
/// A certificate signed by its own key.
Issued self_signed(const TempDir& dir, const std::string& file, const Wanted& wanted = {});

/// A plain OpenSSL server or client; nullptr members are left out.
tlsd::SslCtx server_context(const Issued& issued);
tlsd::SslCtx client_context(const std::string& ca);

/// The TLS connection of a far end, over a socket that stays the caller's.
class TlsEnd {
 public:
  TlsEnd(SSL_CTX* context, int socket, bool server);
  bool shake_hands() { return SSL_do_handshake(ssl.get()) == 1; }
  bool send(std::string_view bytes);
  /// Until close_notify; `clean` says whether it came.
  std::string receive_all(bool* clean = nullptr);
  std::string receive_exactly(std::size_t size);
  void close_notify() { SSL_shutdown(ssl.get()); }
  tlsd::Ssl ssl;
};
/// For TcpServer: the handshake, then `serve`.
TcpServer::Serve serve_tls(SSL_CTX* context, std::function<void(TlsEnd&)> serve);
void echo_tls(TlsEnd& end);

/// Whether the kernel can carry TLS records.
bool kernel_has_tls();

/// `{"ca":"…","versions":["1.3"]}` and the like, from pairs of name and value (already JSON where it begins
/// with [ or { or is true, false or digits).
std::string profile(const std::vector<std::pair<std::string, std::string>>& members);

}  // namespace kit
