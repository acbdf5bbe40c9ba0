// Whom datagrams come from and go to.
#pragma once
#include <cstring>
#include <functional>
#include <string_view>

#include "ipc/address.hh"

namespace udpd {

struct Peer {
  ipc::Address address{};
  std::uint16_t port = 0;
  std::uint32_t scope = 0;  ///< of an IPv6 link-local address: the interface behind which it is; else 0
  auto operator<=>(const Peer&) const = default;
};

/// The network that limits count as one: IPv4 /24, IPv6 /56 (what one site usually gets, RFC 6177).
inline ipc::Address prefix_of(const ipc::Address& address) {
  ipc::Address prefix;
  prefix.v6 = address.v6;
  std::memcpy(prefix.bytes.data(), address.bytes.data(), address.v6 ? 7 : 3);
  return prefix;
}

struct PeerHash {
  std::size_t operator()(const ipc::Address& address) const {
    return std::hash<std::string_view>{}(
        {reinterpret_cast<const char*>(address.bytes.data()), address.bytes.size()});
  }
  std::size_t operator()(const Peer& peer) const {
    return (*this)(peer.address) * 31 + std::hash<std::uint16_t>{}(peer.port);
  }
};

}  // namespace udpd
