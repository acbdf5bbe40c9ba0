// Socket filters (classic BPF): who gets into a flow's socket, decided before the socket has a queue.
#pragma once
#include <optional>

#include "ipc/error.hh"
#include "udpd/peer.hh"

namespace udpd {

/// Lets in datagrams from `peer` alone (where given) and, with `no_hop`, none that begins with the hop's
/// magic. Replaces an earlier filter.
ipc::Result<> attach_filter(int socket, const std::optional<Peer>& peer, bool no_hop);

}  // namespace udpd
