// The only owner of descriptors, and the only functions that send and receive them.
#pragma once
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

/// What one send or receive on a non-blocking socket came to.
enum class Io { done, again, closed };

struct Received {
  Io io = Io::done;  ///< `again`: nothing there; `closed`: end of stream, reset, or a record too long or cut
  std::size_t size = 0;  ///< bytes stored in the buffer
  std::vector<Fd> fds;   ///< owned, CLOEXEC
};

/// One sendmsg(2) of the whole of `bytes` with `fds` (borrowed) attached, MSG_NOSIGNAL. On stream sockets a
/// short send is possible and is not an error: `sent` receives the count.
Result<Io> send_with_fds(int socket, std::string_view bytes, std::span<const int> fds,
                         std::size_t* sent = nullptr);

/// One recvmsg(2), non-blocking (MSG_DONTWAIT). Every descriptor is owned before anything is checked; a
/// control message that was cut (MSG_CTRUNC) or a record longer than the buffer (MSG_TRUNC) is an error: the
/// peer misbehaves.
Result<Received> receive_with_fds(int socket, std::span<char> buffer);

/// The same where none are wanted: those that come along are closed, and none of them can make us wait for
/// its unsent bytes (SO_LINGER).
Result<Received> receive_without_fds(int socket, std::span<char> buffer);

/// AF_UNIX pair of `type` (SOCK_STREAM, ...), both ends CLOEXEC and non-blocking.
Result<std::pair<Fd, Fd>> socket_pair(int type);
/// AF_UNIX socket, CLOEXEC and non-blocking.
Result<Fd> unix_socket(int type);
Result<> set_blocking(int fd, bool blocking);
/// The other end of the socket was closed, not only shut down for writing: it takes nothing any more.
bool is_hung_up(int socket);
/// dup(2) with CLOEXEC.
Result<Fd> duplicate(int fd);

}  // namespace ipc
