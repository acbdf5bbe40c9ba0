#include "plumb/pump.hh"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>
#include <vector>

#include "ipc/fd.hh"
#include "ipc/tls_socket.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
constexpr std::size_t part_size = 256 * 1024;
constexpr std::size_t datagram_size = 1200;  // fits every path's MTU
constexpr int silence_ms = 1000;

bool is_stream(int socket) {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_DGRAM;
}

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

/// Runs beside the other direction; ends when that one gives `over`.
void carry_out(int socket, bool stream, const Notice& over, const Notice& input_ended) {
  std::vector<char> part(stream ? part_size : datagram_size);
  while (wait_readable(STDIN_FILENO, over.borrow(), -1)) {
    const auto count = uninterrupted([&] { return ::read(STDIN_FILENO, part.data(), part.size()); });
    if (count <= 0 || !send_all(socket, {part.data(), static_cast<std::size_t>(count)})) break;
  }
  if (stream) ipc::end_bytes(socket);
  input_ended.give();
}

ipc::Result<> carry_in(int socket) {
  std::vector<char> part(part_size);
  for (;;) {
    const auto count = ipc::read_bytes(socket, part);
    if (count == 0) return {};
    if (count < 0)
      return ipc::fail(ipc::Word::unreachable, "the connection broke: " + ipc::errno_text(errno));
    put({part.data(), static_cast<std::size_t>(count)});
  }
}

/// Datagrams have no end: silence behind the end of the input is one.
ipc::Result<> carry_datagrams_in(int socket, const Notice& input_ended) {
  std::vector<char> part(part_size);
  for (bool ended = false;;) {
    const bool came = wait_readable(socket, ended ? -1 : input_ended.borrow(), ended ? silence_ms : -1);
    if (!came && ended) return {};
    ended = ended || !came;
    if (!came) continue;
    const auto count = uninterrupted([&] { return ::recv(socket, part.data(), part.size(), 0); });
    if (count < 0)
      return ipc::fail(ipc::Word::unreachable, "the connection broke: " + ipc::errno_text(errno));
    put({part.data(), static_cast<std::size_t>(count)});
  }
}
}  // namespace

ipc::Result<> pump(int socket) {
  const bool stream = is_stream(socket);
  const Notice over;
  const Notice input_ended;
  std::jthread out{[&] { carry_out(socket, stream, over, input_ended); }};
  auto result = stream ? carry_in(socket) : carry_datagrams_in(socket, input_ended);
  const bool other_direction_goes_on = result && stream && ::isatty(STDIN_FILENO) == 0;
  ::close(STDOUT_FILENO);
  if (other_direction_goes_on) return result;  // joins
  over.give();
  ipc::end_bytes(socket, MSG_DONTWAIT);
  ::shutdown(socket, SHUT_RDWR);
  return result;
}
}  // namespace plumb
