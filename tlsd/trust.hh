// Who is trusted to vouch for a peer.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/error.hh"
#include "tlsd/openssl.hh"

namespace tlsd {

using Log = std::function<void(std::string_view level, std::string_view message)>;

/// Pre-shared key suites of TLS 1.2, forward secret ones first.
constexpr const char* psk_ciphers = "kECDHEPSK+CHACHA20:kPSK+AESGCM:kPSK+CHACHA20";

inline void free_names(STACK_OF(X509_NAME) * names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }
using Names = std::unique_ptr<STACK_OF(X509_NAME), Release<free_names>>;

/// A store of these PEM files and hashed directories; without any, OpenSSL's default store (SSL_CERT_FILE,
/// SSL_CERT_DIR). `crls` are PEM files that hold revocation lists and nothing else; with them no certificate
/// passes that one of them revokes or that none of them covers. `log` is warned of lists that are old.
ipc::Result<Store> make_trust(const std::vector<std::string>& anchors, const std::vector<std::string>& crls,
                              const Log& log);
/// What the default store is read from: to be watched.
std::vector<std::string> system_trust_files();
/// When the first of the store's revocation lists expires that has not yet (seconds since the epoch); 0: none
/// will.
std::int64_t next_expiry(X509_STORE* store);
/// The names of the authorities in a store: what clients are told to bring a certificate of.
Names names_of(X509_STORE* store);

}  // namespace tlsd
