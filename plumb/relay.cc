#include "plumb/relay.hh"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "ipc/message.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
constexpr std::size_t largest = 65'536;

class Relay {
 public:
  Relay(int socket, int program, int idle_ms) : socket_{socket}, program_{program}, idle_ms_{idle_ms} {}

  void run() {
    carry();
    end();
  }

 private:
  void carry() {
    for (;;) {
      std::array<pollfd, 2> ready{{{socket_, POLLIN, 0}, {program_, POLLIN, 0}}};
      const int count = ::poll(ready.data(), ready.size(), idle_ms_);
      if (count == 0 || (count < 0 && errno != EINTR)) return;
      if (count > 0 && ready[1].revents != 0 && !carry_out()) return;
      if (count > 0 && ready[0].revents != 0 && !carry_in()) return;
    }
  }

  /// A socket that closes over bytes nobody read is "reset by peer" to the program instead of at its end
  /// (unix(7)). Once this end is shut down nothing can be added to what is read here.
  void end() {
    ::shutdown(program_, SHUT_RDWR);
    ssize_t size = 0;
    do {
      size = ::recv(program_, room_.data(), room_.size(), MSG_DONTWAIT);
      if (size > 0)
        ::send(socket_, room_.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (size > 0 || (size < 0 && (errno == ECONNRESET || errno == EINTR)));
  }

  /// What the program wrote; false when it has ended, or its peer.
  bool carry_out() {
    const auto size = ::recv(program_, room_.data(), room_.size(), MSG_DONTWAIT);
    // ECONNRESET: it ended without reading all that it got; what it wrote lies behind that.
    if (size < 0) return errno == EAGAIN || errno == EINTR || errno == ECONNRESET;
    if (size == 0) return !ipc::is_hung_up(program_);  // an empty message, or the end
    if (::send(socket_, room_.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) >= 0) return true;
    if (errno == EMSGSIZE) warn(size);
    return !is_over(errno);
  }

  /// What the peer wrote. A program that does not read loses datagrams, as any full queue does, and one that
  /// has ended is found out by `carry_out`, behind its last words. Empty ones look like the end.
  bool carry_in() {
    const auto size = ::recv(socket_, room_.data(), room_.size(), MSG_DONTWAIT);
    if (size < 0) return !is_over(errno);
    if (size > 0) ::send(program_, room_.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
  }

  /// Whether nobody is at the other end, and nothing of theirs is left to read. All other errors are about
  /// one datagram.
  bool is_over(int code) {
    const bool gone = code == ECONNREFUSED || code == ECONNRESET || code == EPIPE || code == ENOTCONN;
    return gone && ::recv(socket_, room_.data(), 1, MSG_PEEK | MSG_DONTWAIT) < 0;
  }

  void warn(ssize_t size) {
    if (std::exchange(has_warned_, true)) return;
    complain("a datagram of " + std::to_string(size) +
             " bytes is larger than the path carries and was lost; later ones are not reported");
  }

  int socket_;
  int program_;
  int idle_ms_;  ///< -1: none
  bool has_warned_ = false;
  std::array<char, largest> room_{};
};

/// Two descriptors, moved to where the range above them can be closed, and signals as they come.
[[noreturn]] void relay(int socket, int program, std::chrono::milliseconds idle) {
  if (::dup2(socket, STDIN_FILENO) < 0 || ::dup2(program, STDOUT_FILENO) < 0) ::_exit(1);
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  Relay{STDIN_FILENO, STDOUT_FILENO, idle.count() > 0 ? static_cast<int>(idle.count()) : -1}.run();
  ::_exit(0);
}

/// Forks twice: a program that waits for its children knows nothing of this one.
template <class Run>
bool start_apart(Run run) {
  const pid_t child = ::fork();
  if (child == 0) {
    const pid_t grandchild = ::fork();
    if (grandchild == 0) run();
    ::_exit(grandchild < 0 ? 1 : 0);
  }
  int status = 0;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}
}  // namespace

bool is_datagram(int socket) { return ipc::type_of(socket) == SOCK_DGRAM; }

ipc::Fd behind_relay(ipc::Fd socket, const std::vector<std::string>& first, std::chrono::milliseconds idle) {
  int raw[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, raw) != 0) return socket;
  ipc::Fd ours{raw[0]};
  ipc::Fd programs{raw[1]};
  ipc::bound_datagrams(programs.borrow(), ipc::largest_datagram(socket.borrow()));
  const int room = 1 << 20;  // for all that came first, however small: each costs a kilobyte
  ::setsockopt(ours.borrow(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
  for (const auto& datagram : first)
    if (!datagram.empty())  // it would look like the end
      ::send(ours.borrow(), datagram.data(), datagram.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (!start_apart([&] { relay(socket.borrow(), ours.borrow(), idle); })) return socket;
  return programs;
}
}  // namespace plumb
