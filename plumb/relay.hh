// Datagrams that came before a socket existed, put in front of those that come after.
#pragma once
#include <string>
#include <vector>

#include "ipc/fd.hh"

namespace plumb {

/// A datagram socket that reads `first` and then what `socket` receives, and writes to `socket`. Nothing can
/// be put back into a kernel socket, so a child process relays; it ends with either side. In a process that
/// is about to exec only: the child keeps none of its other descriptors. On failure the socket itself,
/// without `first`.
ipc::Fd behind_relay(ipc::Fd socket, const std::vector<std::string>& first);

}  // namespace plumb
