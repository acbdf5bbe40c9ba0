// Why a TLS connection failed, as a word and a sentence.
#pragma once
#include <string>

#include "ipc/error.hh"

namespace tlsd {

class Session;

/// The far side went on without the key that was offered.
std::string key_not_taken(const Session& session);
/// After `shake_hands` came to `closed`: AUTH where somebody could not be authenticated or agreed with, else
/// UNREACHABLE.
ipc::Error fault_in_handshake(const Session& session);
/// The same for an established connection: an alert that came late (TLS 1.3 servers judge our certificate
/// after our handshake is done), or an end that may have been forged.
ipc::Error fault_after_handshake(const Session& session);

}  // namespace tlsd
