// Between the datagrams of a peer and a program, which has to learn when they end.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "ipc/fd.hh"

namespace plumb {

bool is_datagram(int socket);

/// A socket that keeps datagrams apart: it reads `first` (datagrams that came before `socket` existed;
/// nothing can be put back into a kernel socket) and then what `socket` receives, and writes to `socket`. It
/// ends, which datagrams never do, after `idle` (0: never) without any, and when `socket` says that nobody is
/// there any more. A process of its own, no child of ours, relays and ends with either side. In a process
/// that is about to exec only: the relay keeps none of its other descriptors but standard error. On failure
/// the socket itself, without `first`.
ipc::Fd behind_relay(ipc::Fd socket, const std::vector<std::string>& first, std::chrono::milliseconds idle);

}  // namespace plumb
