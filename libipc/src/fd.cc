#include "ipc/fd.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83  // Linux 6.16; the headers of Debian 12 are older
#endif

namespace ipc {
namespace {
std::vector<Fd> take_fds(msghdr& header) {
  std::vector<Fd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(part) + i * sizeof(int), sizeof raw);
      fds.emplace_back(raw);
    }
  }
  return fds;
}

int option_of(int socket, int option) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

/// Whether anything lies unread in a socket that is not connected for reading any more. A credential tells an
/// empty message from none; descriptors, which find no room, stay where they are.
bool has_unread(int socket, bool is_stream) {
  int bytes = 0;
  if (is_stream) return ::ioctl(socket, FIONREAD, &bytes) != 0 || bytes > 0;
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control;
  msghdr header{};
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const auto count = ::recvmsg(socket, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  return count >= 0 && header.msg_controllen > 0;
}

bool is_hangup(int code) { return code == ECONNRESET || code == EPIPE || code == ENOTCONN; }
}  // namespace

Fd::~Fd() {
  if (raw_ >= 0) ::close(raw_);
}

Result<Io> send_with_fds(int socket, std::string_view bytes, std::span<const int> fds, std::size_t* sent) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(max_fds * sizeof(int))> control;
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (fds.size() > max_fds) return fail(Word::internal, "more than 16 descriptors in one message");
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    std::memset(control.data(), 0, header.msg_controllen);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  for (;;) {
    const ssize_t count = ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      if (sent != nullptr) *sent = static_cast<std::size_t>(count);
      return Io::done;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Io::again;
    if (is_hangup(errno)) return Io::closed;
    if (errno == ETOOMANYREFS)
      return fail(Word::busy, "too many descriptors are on their way to receivers that do not read them");
    return fail_errno("sendmsg");
  }
}

Result<Received> receive_with_fds(int socket, std::span<char> buffer) {
  alignas(cmsghdr) std::array<char, fds_room> control;
  iovec part{buffer.data(), buffer.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t count = -1;
  do count = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) {
    if (errno == EAGAIN) return Received{.io = Io::again};
    if (is_hangup(errno)) return Received{.io = Io::closed};
    return fail_errno("recvmsg");
  }
  Received received{.io = count == 0 ? Io::closed : Io::done,
                    .size = static_cast<std::size_t>(count),
                    .fds = take_fds(header)};
  const bool too_many = received.fds.size() > max_fds;
  const bool too_long = (header.msg_flags & MSG_TRUNC) != 0;
  if (!too_many && !too_long) return received;
  close_apart(std::move(received.fds));
  if (too_many) return fail(Word::bad_request, "more than 16 descriptors in one message");
  return fail(Word::bad_request, "a message of more than " + std::to_string(buffer.size()) + " bytes");
}

Result<Received> receive_without_fds(int socket, std::span<char> buffer) {
  auto received = receive_with_fds(socket, buffer);
  if (!received) return received;
  close_apart(std::exchange(received->fds, {}));
  return received;
}

ssize_t receive_bytes(int socket, std::span<iovec> parts, int flags, bool* had_fds) {
  alignas(cmsghdr) std::array<char, fds_room> control;
  msghdr header{};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  // A look does not take them: it need not get them either.
  if ((flags & MSG_PEEK) == 0) header.msg_control = control.data();
  if ((flags & MSG_PEEK) == 0) header.msg_controllen = control.size();
  const auto count = ::recvmsg(socket, &header, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const bool had = count >= 0 && (close_fds(header) || (header.msg_flags & MSG_CTRUNC) != 0);
  if (had_fds != nullptr) *had_fds = had;
  return count;
}

ssize_t receive_bytes(int socket, std::span<char> buffer) {
  iovec part{buffer.data(), buffer.size()};
  return receive_bytes(socket, {&part, 1}, 0);
}

bool close_fds(msghdr& header) {
  if (header.msg_controllen == 0) return false;
  auto fds = take_fds(header);
  const bool had = !fds.empty();
  close_apart(std::move(fds));
  return had;
}

void take_urgent_inline(int socket) {
  const int on = 1;
  ::setsockopt(socket, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

bool refuse_fds(int socket) {
  const int no = 0;
  return ::setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof no) == 0;
}

StrangerFd& StrangerFd::operator=(StrangerFd&& from) noexcept {
  let_go();
  socket_ = std::move(from.socket_);
  type_ = from.type_;
  refuses_ = from.refuses_;
  return *this;
}

void StrangerFd::let_go() noexcept {
  if (!socket_ || refuses_) return;
  ::shutdown(borrow(), SHUT_RD);  // nothing comes on top
  std::vector<Fd> unsafe;
  if (has_unread(borrow(), type_ == SOCK_STREAM)) unsafe.push_back(std::move(socket_));
  close_apart(std::move(unsafe));
}

Result<std::pair<Fd, Fd>> socket_pair(int type) {
  int raw[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, raw) != 0)
    return fail_errno("socketpair");
  return std::pair{Fd{raw[0]}, Fd{raw[1]}};
}

Result<Fd> unix_socket(int type) {
  Fd fd{::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return fail_errno("socket(AF_UNIX)");
  return fd;
}

Result<> set_blocking(int fd, bool blocking) {
  int on = blocking ? 0 : 1;  // one call, where fcntl would take two
  if (::ioctl(fd, FIONBIO, &on) != 0) return fail_errno("ioctl(FIONBIO)");
  return {};
}

int type_of(int socket) { return option_of(socket, SO_TYPE); }

int domain_of(int socket) { return option_of(socket, SO_DOMAIN); }

bool is_hung_up(int socket) {
  pollfd state{.fd = socket, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

Result<Fd> duplicate(int fd) {
  Fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
  if (!copy) return fail_errno("dup");
  return copy;
}
}  // namespace ipc
