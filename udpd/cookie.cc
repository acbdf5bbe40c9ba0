#include "udpd/cookie.hh"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>

namespace udpd {
namespace {
void add(EVP_MAC_CTX* mac, const void* bytes, std::size_t size) {
  EVP_MAC_update(mac, static_cast<const unsigned char*>(bytes), size);
}
}  // namespace

ipc::Result<CookieJar> CookieJar::open() {
  std::array<unsigned char, 32> key;
  std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> kind{EVP_MAC_fetch(nullptr, "HMAC", nullptr),
                                                         &EVP_MAC_free};
  Mac mac{kind ? EVP_MAC_CTX_new(kind.get()) : nullptr};
  char digest[] = "SHA256";
  const OSSL_PARAM settings[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
  const bool ready = mac && RAND_bytes(key.data(), static_cast<int>(key.size())) == 1 &&
                     EVP_MAC_init(mac.get(), key.data(), key.size(), settings) == 1;
  OPENSSL_cleanse(key.data(), key.size());
  if (!ready) return ipc::fail(ipc::Word::internal, "OpenSSL has no HMAC-SHA256 or no random numbers");
  return CookieJar{std::move(mac)};
}

Cookie CookieJar::make(const Peer& peer, const Nonce& nonce, std::string_view service,
                       std::uint64_t now) const {
  return of_epoch(now / epoch_ms, peer, nonce, service);
}

bool CookieJar::is_good(const Cookie& cookie, const Peer& peer, const Nonce& nonce, std::string_view service,
                        std::uint64_t now) const {
  const auto current = now / epoch_ms;
  const auto epoch = cookie[0] == static_cast<unsigned char>(current) ? current : current - 1;
  const auto right = of_epoch(epoch, peer, nonce, service);
  return CRYPTO_memcmp(cookie.data(), right.data(), cookie.size()) == 0;
}

Cookie CookieJar::of_epoch(std::uint64_t epoch, const Peer& peer, const Nonce& nonce,
                           std::string_view service) const {
  EVP_MAC_init(mac_.get(), nullptr, 0, nullptr);  // again, with the same key
  add(mac_.get(), &epoch, sizeof epoch);
  const unsigned char family = peer.address.v6 ? 6 : 4;
  add(mac_.get(), &family, 1);
  add(mac_.get(), peer.address.bytes.data(), peer.address.bytes.size());
  add(mac_.get(), &peer.port, sizeof peer.port);
  add(mac_.get(), nonce.data(), nonce.size());
  add(mac_.get(), service.data(), service.size());
  std::array<unsigned char, 32> digest{};
  std::size_t size = 0;
  EVP_MAC_final(mac_.get(), digest.data(), &size, digest.size());
  Cookie cookie;
  cookie[0] = static_cast<unsigned char>(epoch);
  std::copy_n(digest.begin(), cookie.size() - 1, cookie.begin() + 1);
  return cookie;
}
}  // namespace udpd
