// Carrying bytes between our standard streams and a connection.
#pragma once
#include "ipc/error.hh"

namespace plumb {

/// Standard input to `socket`, `socket` to standard output, until both directions ended. The end of one is
/// passed on and leaves the other open; only at a terminal does the service's end end it all. A datagram
/// socket sends each read as a datagram, and is given up after a second of silence behind the end of the
/// input. UNREACHABLE: the connection broke.
ipc::Result<> pump(int socket);

}  // namespace plumb
