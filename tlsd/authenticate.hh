// Who the far side turned out to be.
#pragma once
#include "ipc/json.hh"
#include "tlsd/session.hh"

namespace tlsd {

/// After the handshake: AUTH unless the peer has proved itself as the settings demand, else what is known of
/// it, as labels: tls.version, tls.cipher, tls.alpn, cert.name, cert.names (authenticated host names and
/// addresses, blanks between), cert.issuer, cert.fingerprint, psk.identity.
ipc::Result<ipc::Labels> authenticate_peer(const Session& session);

}  // namespace tlsd
