// Connecting to UNIX sockets by path: whatever type, never further than the path leads, and patiently.
#pragma once
#include <sys/un.h>

#include <functional>
#include <string>
#include <string_view>

#include "ipc/fd.hh"
#include "ipc/loop.hh"

namespace plumberd {

/// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET: what `?type=` of a unix URI says.
int socket_type(std::string_view name);
/// BAD_REQUEST for a path of more than 107 bytes.
ipc::Result<sockaddr_un> unix_address(const std::string& path);

/// Starts to connect to the UNIX socket at `path`. The kernel answers at once: a full backlog is `busy`
/// (worth another try), nobody there UNREACHABLE. The socket is non-blocking.
ipc::Result<ipc::Fd> connect_unix(const std::string& path, int type);
/// Where symbolic links are not followed.
enum class Links : std::uint8_t { not_at_end, nowhere };
/// The same to the socket at `path` itself: a link, symbolic or hard, or another file is UNREACHABLE. For
/// places where others may write and put a link to what only we may open.
ipc::Result<ipc::Fd> connect_unix_itself(const std::string& path, int type, Links links);
/// Where a path leads.
struct RealPath {
  std::string path{};   ///< without symbolic links
  bool trusted = true;  ///< no link on the way is anybody's but root's or ours
};
/// UNREACHABLE if `path` leads nowhere.
ipc::Result<RealPath> real_path(const std::string& path);

/// Tries again, with growing pauses, while the socket's queue of connections is full: poll(2) cannot wait for
/// that. Destroying it gives up.
class PatientConnect {
 public:
  using Try = std::function<ipc::Result<ipc::Fd>()>;
  using Done = std::function<void(ipc::Result<ipc::Fd>)>;
  PatientConnect(ipc::Loop& loop, ipc::Milliseconds time, Try attempt, Done done);
  PatientConnect(const PatientConnect&) = delete;
  /// Calls `done` once, at once or later; it may destroy this.
  void start();

 private:
  ipc::Loop& loop_;
  std::uint64_t ends_at_;
  Try try_;
  Done done_;
  ipc::Milliseconds pause_;
  ipc::Timer timer_;
};

}  // namespace plumberd
