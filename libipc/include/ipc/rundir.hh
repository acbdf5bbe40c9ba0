// Where a client or service finds the router, and whether it may believe what answers there
// (docs/protocol.md, section 1).
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "ipc/deadline.hh"
#include "ipc/fd.hh"

namespace ipc {

/// Where a client looks, first to last: `given`, else $IPC_RUNDIR, else $XDG_RUNTIME_DIR/ipc and /run/ipc. Of
/// several, the first counts where a router answers, otherwise the last. Variables that are empty, and
/// relative XDG_RUNTIME_DIRs, count as unset; in setuid programs all do (secure_getenv).
std::vector<std::string> client_rundirs(std::string_view given = {});

/// The name of the native door in a run directory.
std::string native_door(std::string_view rundir);

/// Connects to the UNIX socket at `path`; waits for room in its backlog until the deadline. The socket is
/// blocking and CLOEXEC, without timeouts. NO_ROUTER where nothing answers (missing, refused), DENIED where
/// its mode does not admit us, TIMEOUT, BAD_REQUEST for a path of more than 107 bytes.
Result<Fd> connect_unix(const std::string& path, int type, const Deadline& deadline);

/// AUTH unless the other end of a connected UNIX socket was opened by root, by the user `plumberd`, or by
/// ourselves (SO_PEERCRED against the effective user). `path` is for the sentence.
Result<> check_door_owner(int socket, const std::string& path);

}  // namespace ipc
