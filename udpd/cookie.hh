// Cookies: proof that a peer receives what is sent to its address, without a byte kept for it.
#pragma once
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>

#include "udpd/hop_datagram.hh"
#include "udpd/peer.hh"

namespace udpd {

class CookieJar {
 public:
  /// How long an epoch is; a cookie is good in its own and in the next.
  static constexpr std::uint64_t epoch_ms = 30'000;
  /// A key of its own, from the kernel.
  static ipc::Result<CookieJar> open();
  CookieJar(CookieJar&&) = default;
  CookieJar& operator=(CookieJar&&) = default;
  ~CookieJar();
  /// For the hello that carried `frame`. `now` in milliseconds of any steady clock, always the same one.
  Cookie make(const Peer& peer, const Nonce& nonce, std::string_view frame, std::uint64_t now) const;
  bool is_good(const Cookie& cookie, const Peer& peer, const Nonce& nonce, std::string_view frame,
               std::uint64_t now) const;

 private:
  struct FreeMac {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
  };
  using Mac = std::unique_ptr<EVP_MAC_CTX, FreeMac>;
  explicit CookieJar(Mac mac) : mac_{std::move(mac)} {}
  Cookie of_epoch(std::uint64_t epoch, const Peer& peer, const Nonce& nonce, std::string_view frame) const;

  // SipHash is made for this: short messages, an answer at once, nobody who could try keys.
  std::array<unsigned char, 16> key_{};
  Mac mac_;
};

}  // namespace udpd
