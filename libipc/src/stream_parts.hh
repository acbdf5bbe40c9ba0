// What dialling and accepting over streams share. Private to libipc.
#pragma once
#include <string>
#include <string_view>

#include "ipc/address.hh"
#include "ipc/json.hh"
#include "ipc/loop.hh"
#include "ipc/uri.hh"

namespace ipc {

/// Both ends of a TCP connection, as far as they are known.
struct Endpoints {
  std::optional<std::pair<Address, std::uint16_t>> peer{};
  std::optional<std::pair<Address, std::uint16_t>> local{};
};
std::optional<std::pair<Address, std::uint16_t>> local_end(int socket);
std::optional<std::pair<Address, std::uint16_t>> peer_end(int socket);

/// The labels of a connection as JSON text: scheme, peer.address, peer.port, local.address, and `more`.
std::string labels_text(std::string_view scheme, const Endpoints& ends, const Labels& more);

/// Of two limits the one that ends first; 0 is none.
Milliseconds shorter(Milliseconds a, Milliseconds b);

/// "HOST:PORT", IPv6 in brackets.
std::string place(std::string_view host, std::uint16_t port);

}  // namespace ipc
