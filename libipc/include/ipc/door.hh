// The native door from the outside: blocking requests with a deadline, no loop and no thread
// (docs/protocol.md, section 3).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/deadline.hh"
#include "ipc/fd.hh"
#include "ipc/rpc.hh"

namespace ipc {

/// A connection to a router. Not for use by several threads at a time.
class Door {
 public:
  struct Incoming {
    rpc::Message message;
    std::vector<Fd> fds;
    /// The descriptor that `"fd": N` of the result or the params points to; INTERNAL when it did not come.
    Result<Fd> take_fd();
  };

  /// Connects to the door at `path` and checks its owner. NO_ROUTER: nobody answers; AUTH: not to be trusted.
  static Result<Door> open(const std::string& path, const Deadline& deadline);
  /// The router's answer or its error. TIMEOUT leaves the door usable: the late answer is dropped, with its
  /// descriptors. NO_ROUTER: the router ended the connection. Messages that answer nothing are dropped while
  /// we wait: use one door for requests and another for `serve` or `events`.
  Result<Incoming> call(std::string_view method, std::string_view params, const Deadline& deadline);
  /// The same, but a refusal is an Incoming too: for those who want all of its `data`.
  Result<Incoming> ask(std::string_view method, std::string_view params, const Deadline& deadline);
  /// Sends a request without waiting; gives its id as it will come back.
  Result<std::string> request(std::string_view method, std::string_view params, const Deadline& deadline);
  /// The next message, whatever it is.
  Result<Incoming> receive(const Deadline& deadline);
  /// The same without waiting; nothing when there is none.
  Result<std::optional<Incoming>> try_receive();
  /// For poll(2); stays ours.
  int borrow() const { return socket_.borrow(); }

 private:
  explicit Door(Fd socket);
  Fd socket_;
  std::unique_ptr<char[]> buffer_;
  std::uint64_t next_id_ = 1;
};

/// A run directory and what answered at its native door.
struct Router {
  std::string rundir;
  Result<Door> door;
};
/// Looks for a router in `client_rundirs(given)`.
Router find_router(std::string_view given, const Deadline& deadline);

}  // namespace ipc
