// The labels of a flow.
#pragma once
#include <optional>
#include <string>

#include "udpd/peer.hh"

namespace udpd {

/// JSON text: scheme, peer.address, peer.port, local.address, local.port.
std::string labels_text(const Peer& peer, const std::optional<Peer>& local);

}  // namespace udpd
