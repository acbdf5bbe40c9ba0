// Asking for a service and getting its socket: what programs use instead of network code.
//
//   auto pong = ipc::connect("pong");
//   if (!pong) return complain(pong.error().text);
//   write(pong->fd.borrow(), ...);
#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "ipc/deadline.hh"
#include "ipc/door.hh"
#include "ipc/fd.hh"
#include "ipc/json.hh"

namespace ipc {

/// A connected socket, and what is known about it.
struct Connection {
  Fd fd;                   ///< blocking, CLOEXEC; no copy of it is held by the router or a helper
  std::string path{};      ///< how its bytes travel: "direct", "ktls", "ktls-relay", "relay"
  Labels labels{};         ///< scheme, peer.address, cert.name, ...: docs/protocol.md, section 7
  std::string decision{};  ///< JSON text of the decision, where it was asked for
};

struct ConnectOptions {
  Milliseconds timeout = std::chrono::seconds{30};  ///< for the whole call; negative: none
  std::optional<std::string> networkd{};            ///< instead of $IPC_NETWORKD and $IPC_NETWORK
  Labels labels{};                                  ///< claims, that the service sees under `claimed.`
  bool decision = false;                            ///< have the decision told
  bool ktls = false;  ///< the socket is used with ipc/tls_socket.hh: path "ktls" is welcome
};

/// Dials for a program that dials often: one connection to the router is kept and opened again (once per
/// dial) when the router restarted. Not for use by several threads at a time; after a fork(2) the child opens
/// its own.
class Client {
 public:
  /// `rundir`: the run directory, instead of what the environment says.
  explicit Client(std::string rundir = {}) : rundir_{std::move(rundir)} {}
  /// The service, by the directives of IPC_NETWORKD, or of IPC_NETWORK when that is unset. With one of them
  /// set, even empty, the request goes through a router, or fails with NO_ROUTER. With neither, it goes
  /// through a router where there is one, else straight to the service's own socket.
  Result<Connection> connect(std::string_view service, const ConnectOptions& options = {});
  /// A place by its URI; always through a router.
  Result<Connection> connect_uri(std::string_view uri, const ConnectOptions& options = {});
  /// Closes the kept connection; the next dial opens another.
  void disconnect() { door_.reset(); }

 private:
  bool has_kept_door() const;
  Result<> ensure_door(const Deadline& deadline);
  Result<Connection> dial(const std::string& params, const Deadline& deadline, bool& absent);
  std::string rundir_;
  std::string found_;  ///< the run directory in use
  std::optional<Door> door_;
  pid_t opener_ = 0;
};

/// One dial with a connection of its own to the router.
Result<Connection> connect(std::string_view service, const ConnectOptions& options = {});
Result<Connection> connect_uri(std::string_view uri, const ConnectOptions& options = {});

/// The value of IPC_NETWORKD, else of IPC_NETWORK (secure_getenv); nothing when both are unset.
std::optional<std::string> environment_networkd();

}  // namespace ipc
