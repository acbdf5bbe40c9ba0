#include "plumb/pump.hh"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "ipc/fd.hh"
#include "ipc/tls_socket.hh"
#include "plumb/output.hh"
#include "plumb/relay.hh"

namespace plumb {
namespace {
constexpr std::size_t part_size = 256 * 1024;
constexpr std::size_t datagram_size = 1200;  // fits every path's MTU
constexpr int silence_ms = 1000;

template <class Call>
ssize_t uninterrupted(Call call) {
  ssize_t count = -1;
  do count = call();
  while (count < 0 && errno == EINTR);
  return count;
}

bool send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count =
        uninterrupted([&] { return ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// A descriptor that says once, to whoever polls it, that something ended.
class Notice {
 public:
  Notice() : fd_{::eventfd(0, EFD_CLOEXEC)} {}
  void give() const {
    const std::uint64_t one = 1;
    static_cast<void>(uninterrupted([&] { return ::write(fd_.borrow(), &one, sizeof one); }));
  }
  int borrow() const { return fd_.borrow(); }

 private:
  ipc::Fd fd_;
};

/// Waits for `fd`; false when `stop` came first or nothing within `timeout_ms`.
bool wait_readable(int fd, int stop, int timeout_ms) {
  std::array<pollfd, 2> ready{{{fd, POLLIN, 0}, {stop, POLLIN, 0}}};
  const auto count = uninterrupted([&] { return ::poll(ready.data(), ready.size(), timeout_ms); });
  return count > 0 && ready[0].revents != 0;
}

std::unexpected<ipc::Error> broke(int code) {
  return ipc::fail(ipc::Word::unreachable, "the connection broke: " + ipc::errno_text(code));
}

/// How the direction outwards ended.
struct Outward {
  Notice ended;
  std::atomic<int> code = 0;   ///< why the input could not be sent
  std::atomic<int> input = 0;  ///< why it could not be read
};

/// What was sent must not look complete: the close of the socket becomes a reset, and whoever reads it stops.
void break_off(int socket) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  ::shutdown(socket, SHUT_RD);
}

/// Runs beside the other direction; ends when that one gives `over`.
void carry_out(int socket, bool stream, const Notice& over, Outward& outward) {
  std::vector<char> part(stream ? part_size : datagram_size);
  while (wait_readable(STDIN_FILENO, over.borrow(), -1)) {
    const auto count = uninterrupted([&] { return ::read(STDIN_FILENO, part.data(), part.size()); });
    if (count < 0 && errno == EAGAIN) continue;  // a terminal or pipe that others made non-blocking
    if (count < 0) outward.input = errno;
    if (count <= 0) break;
    if (send_all(socket, {part.data(), static_cast<std::size_t>(count)})) continue;
    outward.code = errno;
    break;
  }
  if (stream && outward.input != 0) break_off(socket);
  if (stream && outward.input == 0) ipc::end_bytes(socket);
  outward.ended.give();
}

ipc::Result<> carry_in(int socket) {
  std::vector<char> part(part_size);
  for (;;) {
    const auto count = ipc::read_bytes(socket, part);
    if (count == 0) return {};
    if (count < 0) return broke(errno);
    put({part.data(), static_cast<std::size_t>(count)});
  }
}

/// Datagrams have no end: silence behind the end of the input is one. An error of the socket is told once, to
/// whichever direction asks first.
ipc::Result<> carry_datagrams_in(int socket, const Outward& outward) {
  std::vector<char> part(part_size);
  for (bool ended = false;;) {
    const bool came = wait_readable(socket, ended ? -1 : outward.ended.borrow(), ended ? silence_ms : -1);
    if (!came && ended) return {};
    ended = ended || !came;
    if (ended && outward.code != 0) return broke(outward.code);
    if (!came) continue;
    const auto count = uninterrupted([&] { return ::recv(socket, part.data(), part.size(), MSG_DONTWAIT); });
    if (count < 0 && errno == EAGAIN) continue;  // an error that the other direction was told
    if (count < 0) return broke(errno);
    put({part.data(), static_cast<std::size_t>(count)});
  }
}
}  // namespace

namespace {
/// Of both directions. An error of the socket is told once, to whichever asks first.
ipc::Result<> outcome_of(ipc::Result<> inward, const Outward& outward) {
  if (outward.input != 0)
    return ipc::fail(ipc::Word::internal, "cannot read standard input: " + ipc::errno_text(outward.input));
  if (inward && outward.code != 0 && outward.code != EPIPE) return broke(outward.code);
  return inward;
}
}  // namespace

ipc::Result<> pump(int socket) {
  const bool stream = !is_datagram(socket);
  const Notice over;
  Outward outward;
  std::jthread out{[&] { carry_out(socket, stream, over, outward); }};
  auto result = stream ? carry_in(socket) : carry_datagrams_in(socket, outward);
  const bool other_direction_goes_on = result && stream && ::isatty(STDIN_FILENO) == 0;
  ::close(STDOUT_FILENO);
  if (other_direction_goes_on) {
    out.join();
    return outcome_of(std::move(result), outward);
  }
  over.give();
  ipc::end_bytes(socket, MSG_DONTWAIT);
  ::shutdown(socket, SHUT_RDWR);
  out.join();
  return outcome_of(std::move(result), outward);
}
}  // namespace plumb
