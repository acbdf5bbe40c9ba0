// A small certification authority: ECDSA P-256, X.509 v3, a revocation list.
#pragma once
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "ipc/error.hh"

namespace plumb::pki {

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Release<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Release<X509_free>>;
using Crl = std::unique_ptr<X509_CRL, Release<X509_CRL_free>>;

/// What a certificate is for.
struct Order {
  std::vector<std::string> names;  ///< host names and addresses; the first is the common name, too
  bool server = true;
  bool client = true;
  int days = 0;  ///< 0: the default
};

class Authority {
 public:
  /// For `days` days (0: ten years).
  static ipc::Result<Authority> create(const std::string& name, int days);
  /// From DIR/ca.pem and DIR/ca.key.
  static ipc::Result<Authority> load(const std::string& directory);
  /// Writes ca.pem, ca.key (0600) and an empty ca.crl.
  ipc::Result<> save(const std::string& directory);
  /// Writes FILE.pem and FILE.key (0600).
  ipc::Result<> issue(const Order& order, const std::string& file);
  /// Adds the certificate to DIR/ca.crl; also renews the list.
  ipc::Result<> revoke(const std::string& certificate_file);
  /// The list as it is, good for another year.
  ipc::Result<> renew();
  /// Whether FILE holds a certificate of this authority.
  bool has_issued(const std::string& certificate_file) const;

 private:
  Authority(std::string directory, Key key, Certificate certificate);
  ipc::Result<Crl> read_list() const;
  ipc::Result<> write_list(Crl list);
  std::string directory_;
  Key key_;
  Certificate certificate_;
};

/// `bytes` of OpenSSL's random generator in hex.
ipc::Result<std::string> random_hex(std::size_t bytes);

}  // namespace plumb::pki
