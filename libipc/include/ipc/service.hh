// Offering a service: the router judges and accepts, we receive connected sockets.
//
//   auto pong = ipc::Service::serve("pong");
//   while (auto caller = pong->accept()) answer(std::move(caller->fd), caller->labels);
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/deadline.hh"
#include "ipc/fd.hh"
#include "ipc/json.hh"

namespace ipc {

/// A connection that was judged and handed over.
struct Caller {
  Fd fd;                             ///< connected, blocking, CLOEXEC
  Labels labels{};                   ///< who it is: client.uid, peer.address, cert.name, ...
  std::vector<std::string> first{};  ///< datagrams that came before the socket existed, in order
};

struct ServeOptions {
  std::string rundir{};  ///< instead of what the environment says
  bool shared = false;   ///< processes of the same uid share the name, round-robin
  bool ktls = false;     ///< sockets are used with ipc/tls_socket.hh: the kernel may speak TLS on them
  Milliseconds timeout = std::chrono::seconds{30};  ///< for the first registration; negative: none
};

/// A name offered through the router. When the router restarts, the name is registered again by itself, in
/// `accept` and whenever `pollable()` says that there is something to do. Not for use by several threads at a
/// time.
class Service {
 public:
  /// Registers. NO_ROUTER without a router, TAKEN, DENIED by a rule, BAD_REQUEST for what is no service name.
  static Result<Service> serve(std::string_view name, const ServeOptions& options = {});
  Service(Service&&) noexcept;
  Service& operator=(Service&&) noexcept;
  /// The name is gone; connections that nobody took are refused, those handed over live on.
  ~Service();

  /// The next connection. TIMEOUT: none came; negative: wait for ever. Other errors tell why the name is not
  /// registered just now (a restarted router said TAKEN or DENIED) or that a connection was lost (BUSY: out
  /// of descriptors); calling again goes on, and tries again. Without a router it waits for one.
  Result<Caller> accept(Milliseconds timeout = Milliseconds{-1});
  /// Becomes readable when `accept(0ms)` has something to do; that may find nothing. Stays ours, and the same
  /// for the life of the service.
  int pollable() const;
  /// Whether the router knows us at this moment, as far as we have heard.
  bool is_registered() const;
  const std::string& name() const;

 private:
  struct Body;
  explicit Service(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

}  // namespace ipc
