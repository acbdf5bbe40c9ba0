#include "plumb/relay.hh"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace plumb {
namespace {
constexpr std::size_t largest = 65'536;

/// One datagram; false when the program has ended, and when the way is broken. Empty ones cannot be told from
/// the end by the program and are left out.
bool carry_one(int from, int to, bool end_is_possible, std::array<char, largest>& room) {
  const auto count = ::recv(from, room.data(), room.size(), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED;
  if (count == 0) return !end_is_possible;
  return ::send(to, room.data(), static_cast<std::size_t>(count), MSG_NOSIGNAL) >= 0 || errno == ECONNREFUSED;
}

void relay(int socket, int program) {
  static std::array<char, largest> room;  // of the child process alone
  for (;;) {
    std::array<pollfd, 2> ready{{{socket, POLLIN, 0}, {program, POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR) return;
    if (ready[1].revents != 0 && !carry_one(program, socket, true, room)) return;
    if (ready[0].revents != 0 && !carry_one(socket, program, false, room)) return;
  }
}
}  // namespace

ipc::Fd behind_relay(ipc::Fd socket, const std::vector<std::string>& first) {
  int raw[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, raw) != 0) return socket;
  ipc::Fd ours{raw[0]};
  ipc::Fd programs{raw[1]};
  for (const auto& datagram : first)
    ::send(ours.borrow(), datagram.data(), datagram.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const pid_t child = ::fork();
  if (child < 0) return socket;
  if (child > 0) return programs;
  // Two descriptors, moved to where the range above them can be closed.
  if (::dup2(socket.borrow(), STDIN_FILENO) < 0 || ::dup2(ours.borrow(), STDOUT_FILENO) < 0) ::_exit(1);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  relay(STDIN_FILENO, STDOUT_FILENO);
  ::_exit(0);
}
}  // namespace plumb
