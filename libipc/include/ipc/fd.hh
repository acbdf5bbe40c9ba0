// The only owner of descriptors, and the only functions that send and receive them.
#pragma once
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ipc/error.hh"

namespace ipc {

/// Owns one file descriptor. `borrow()` lends the number, `std::move(fd).release()` gives it away.
class [[nodiscard]] Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int raw) noexcept : raw_{raw} {}
  Fd(Fd&& from) noexcept : raw_{std::exchange(from.raw_, -1)} {}
  Fd& operator=(Fd&& from) noexcept {
    Fd old{std::exchange(raw_, std::exchange(from.raw_, -1))};
    return *this;
  }
  ~Fd();
  int borrow() const noexcept { return raw_; }
  int release() && noexcept { return std::exchange(raw_, -1); }
  explicit operator bool() const noexcept { return raw_ >= 0; }

 private:
  int raw_ = -1;
};

/// At most this many descriptors travel with one message.
constexpr std::size_t max_fds = 16;

/// Room for all descriptors that the kernel lets anybody attach to one message (unix(7): SCM_MAX_FD). Those
/// that find none are closed by the kernel in the middle of the call, which waits for their unsent bytes.
constexpr std::size_t fds_room = CMSG_SPACE(253 * sizeof(int));

/// What one send or receive on a non-blocking socket came to.
enum class Io { done, again, closed };

struct Received {
  Io io = Io::done;  ///< `again`: nothing there; `closed`: end of stream, reset, or a record too long or cut
  std::size_t size = 0;  ///< bytes stored in the buffer
  std::vector<Fd> fds;   ///< owned, CLOEXEC
};

/// One sendmsg(2) of the whole of `bytes` with `fds` (borrowed) attached, MSG_NOSIGNAL. On stream sockets a
/// short send is possible and is not an error: `sent` receives the count. BUSY: too many descriptors lie
/// unread (ETOOMANYREFS); INTERNAL: more than `max_fds`, or the call failed.
Result<Io> send_with_fds(int socket, std::string_view bytes, std::span<const int> fds,
                         std::size_t* sent = nullptr);

/// One recvmsg(2), non-blocking (MSG_DONTWAIT). Every descriptor is owned before anything is checked; more of
/// them than `max_fds`, or a record longer than the buffer (MSG_TRUNC), is BAD_REQUEST: the peer misbehaves,
/// and the socket can be read on. INTERNAL: the call failed.
Result<Received> receive_with_fds(int socket, std::span<char> buffer);

/// The same where none are wanted: those that come along are closed (`close_apart`).
Result<Received> receive_without_fds(int socket, std::span<char> buffer);

/// recvmsg(2) with MSG_DONTWAIT for those who want bytes only, and the same of what comes along. `had_fds`
/// receives whether something did: on a stream, what is behind it takes another call (unix(7)).
ssize_t receive_bytes(int socket, std::span<iovec> parts, int flags, bool* had_fds = nullptr);
ssize_t receive_bytes(int socket, std::span<char> buffer);
/// Closes the descriptors that a message of somebody else's recvmsg(2) brought. True: there were some.
bool close_fds(msghdr& header);

/// No descriptors can be sent to this UNIX socket, or to what is accepted from it from now on: SO_PASSRIGHTS,
/// Linux 6.16. False: the kernel is older.
bool refuse_fds(int socket);

/// Closes descriptors that strangers may have a hand in, in another thread: close(2) waits for a socket with
/// SO_LINGER (socket(7)), be it in the queue of a socket in the queue of this one, and for whoever serves a
/// FUSE file.
void close_apart(std::vector<Fd> fds);

/// From now on bytes sent with MSG_OOB are read as others are (SO_OOBINLINE). Without it the kernel drops
/// such a byte, and the descriptors that came with it, in the middle of a read.
void take_urgent_inline(int socket);

/// A UNIX socket that a stranger can send to. Closing it closes what lies unread in it, too: where there is
/// anything, that is done by `close_apart`. Other sockets just close.
class [[nodiscard]] StrangerFd {
 public:
  StrangerFd() noexcept = default;
  /// `type`: SOCK_STREAM, ...; `refuses`: as `refuse_fds` said of it.
  StrangerFd(Fd socket, int type, bool refuses = false) noexcept
      : socket_{std::move(socket)}, type_{type}, refuses_{refuses} {}
  StrangerFd(StrangerFd&&) noexcept = default;
  StrangerFd& operator=(StrangerFd&& from) noexcept;
  ~StrangerFd() { let_go(); }
  int borrow() const noexcept { return socket_.borrow(); }
  /// As it is, for somebody else.
  Fd take() && noexcept { return std::move(socket_); }
  explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

 private:
  void let_go() noexcept;
  Fd socket_;
  int type_ = SOCK_STREAM;
  bool refuses_ = false;
};

/// AF_UNIX pair of `type` (SOCK_STREAM, ...), both ends CLOEXEC and non-blocking.
Result<std::pair<Fd, Fd>> socket_pair(int type);
/// AF_UNIX socket, CLOEXEC and non-blocking.
Result<Fd> unix_socket(int type);
Result<> set_blocking(int fd, bool blocking);
/// SOCK_STREAM, ...; -1 for what is no socket.
int type_of(int socket);
/// AF_UNIX, AF_INET, ...; -1 for what is no socket.
int domain_of(int socket);
/// The other end of the socket was closed, not only shut down for writing: it takes nothing any more.
bool is_hung_up(int socket);
/// dup(2) with CLOEXEC.
Result<Fd> duplicate(int fd);

}  // namespace ipc
