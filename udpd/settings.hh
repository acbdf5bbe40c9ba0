// What the router's `settings` say to udpd (udpd(8), "LIMITS").
#pragma once
#include "ipc/helper.hh"
#include "udpd/socket.hh"

namespace udpd {

/// Bounds of one listening port.
struct Limits {
  std::size_t flows = 8192;  ///< at a time, whoever holds their sockets
  std::size_t flows_per_prefix = 2048;
  /// Sockets of their own; each makes the kernel's look-up of strangers longer. Flows beyond are relayed.
  std::size_t direct_flows = 1000;
  ipc::Milliseconds idle = std::chrono::minutes{5};  ///< of relayed flows
};

SocketOptions socket_options(ipc::JsonView settings);
Limits limits(const ipc::ListenRequest& request);

}  // namespace udpd
