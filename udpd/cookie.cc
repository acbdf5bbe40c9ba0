#include "udpd/cookie.hh"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>

namespace udpd {
namespace {
template <class Number>
void append(std::string& text, const Number& number) {
  text.append(reinterpret_cast<const char*>(&number), sizeof number);
}
}  // namespace

ipc::Result<CookieJar> CookieJar::open() {
  std::unique_ptr<EVP_MAC, decltype(&EVP_MAC_free)> kind{EVP_MAC_fetch(nullptr, "SIPHASH", nullptr),
                                                         &EVP_MAC_free};
  CookieJar jar{Mac{kind ? EVP_MAC_CTX_new(kind.get()) : nullptr}};
  if (!jar.mac_ || RAND_bytes(jar.key_.data(), static_cast<int>(jar.key_.size())) != 1)
    return ipc::fail(ipc::Word::internal, "OpenSSL has no SipHash or no random numbers");
  return jar;
}

CookieJar::~CookieJar() { OPENSSL_cleanse(key_.data(), key_.size()); }

Cookie CookieJar::make(const Peer& peer, const Nonce& nonce, std::string_view frame,
                       std::uint64_t now) const {
  return of_epoch(now / epoch_ms, peer, nonce, frame);
}

bool CookieJar::is_good(const Cookie& cookie, const Peer& peer, const Nonce& nonce, std::string_view frame,
                        std::uint64_t now) const {
  const auto current = now / epoch_ms;
  const auto epoch = cookie[0] == static_cast<unsigned char>(current) ? current : current - 1;
  const auto right = of_epoch(epoch, peer, nonce, frame);
  return CRYPTO_memcmp(cookie.data(), right.data(), cookie.size()) == 0;
}

Cookie CookieJar::of_epoch(std::uint64_t epoch, const Peer& peer, const Nonce& nonce,
                           std::string_view frame) const {
  // All but the frame is of one length: no two sets of facts make the same bytes.
  std::string facts;
  facts.reserve(64 + frame.size());
  append(facts, epoch);
  append(facts, peer.address.v6);
  append(facts, peer.address.bytes);
  append(facts, peer.port);
  append(facts, peer.scope);
  append(facts, nonce);
  facts += frame;
  std::array<unsigned char, 16> digest{};
  std::size_t size = 0;
  EVP_MAC_init(mac_.get(), key_.data(), key_.size(), nullptr);
  EVP_MAC_update(mac_.get(), reinterpret_cast<const unsigned char*>(facts.data()), facts.size());
  EVP_MAC_final(mac_.get(), digest.data(), &size, digest.size());
  Cookie cookie;
  cookie[0] = static_cast<unsigned char>(epoch);
  std::copy_n(digest.begin(), cookie.size() - 1, cookie.begin() + 1);
  return cookie;
}
}  // namespace udpd
