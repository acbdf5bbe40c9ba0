#include "ipc/stream.hh"

#include <sys/socket.h>
#include <uv.h>

#include <cerrno>

namespace ipc {
namespace {
Transfer outcome_of(ssize_t count) {
  if (count > 0) return {.size = static_cast<std::size_t>(count)};
  if (count == 0) return {.io = Io::closed};
  if (errno == EAGAIN) return {.io = Io::again};
  return {.io = Io::closed, .broken = true};
}
}  // namespace

int Stream::events(bool to_read, bool to_write) const {
  return (to_read ? UV_READABLE : 0) | (to_write ? UV_WRITABLE : 0);
}

SocketStream::SocketStream(Fd socket) : socket_{std::move(socket), SOCK_STREAM} {
  (void)set_blocking(borrow(), false);
  if (domain_of(borrow()) == AF_UNIX) take_urgent_inline(borrow());
}

Transfer SocketStream::read(std::span<char> buffer) {
  ssize_t count = -1;
  do count = receive_bytes(borrow(), buffer);
  while (count < 0 && errno == EINTR);
  auto outcome = outcome_of(count);
  outcome.drained = outcome.size < buffer.size();
  // A UNIX peer that closed with bytes of ours unread: all it had sent was read before this, so nothing is
  // cut.
  if (outcome.broken && errno == ECONNRESET && domain_of(borrow()) == AF_UNIX) outcome.broken = false;
  if (outcome.io == Io::closed) outcome.broken = outcome.broken || has_failed_;
  return outcome;
}

Transfer SocketStream::write(std::string_view bytes) {
  ssize_t count = -1;
  do count = ::send(borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  // A reset is told once, to whoever asks first; behind EPIPE there was none.
  if (count < 0 && errno != EAGAIN && errno != EPIPE) has_failed_ = domain_of(borrow()) != AF_UNIX;
  return outcome_of(count);
}

Io SocketStream::finish() { return ::shutdown(borrow(), SHUT_WR) == 0 ? Io::done : Io::closed; }

void SocketStream::make_abrupt() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(borrow(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

std::unique_ptr<Stream> socket_stream(Fd socket) { return std::make_unique<SocketStream>(std::move(socket)); }
}  // namespace ipc
