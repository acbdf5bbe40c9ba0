#include "ipc/plain_end.hh"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "ipc/loop.hh"

namespace ipc {
namespace {
// Cheaper to copy twice than to ask for its size; in a stream it is cheaper to ask, and more may have come.
constexpr std::size_t largest_message = 4096;

/// At most one byte that nobody wants, and then `buffer`.
ssize_t receive(int socket, std::size_t carried, std::span<char> buffer, int flags, bool* had_fds) {
  char skipped = 0;
  std::array parts{iovec{.iov_base = &skipped, .iov_len = carried},
                   iovec{.iov_base = buffer.data(), .iov_len = buffer.size()}};
  return receive_bytes(socket, parts, flags, had_fds);
}

bool is_nothing(int code) { return code == EAGAIN || code == EINTR; }
}  // namespace

Result<std::pair<Fd, std::unique_ptr<PlainEnd>>> PlainEnd::make(Peer peer) {
  int raw[2];  // both blocking, as the peer expects its own: no call here waits
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, raw) != 0) return fail_errno("socketpair");
  Fd theirs{raw[0]}, ours{raw[1]};
  if (::send(theirs.borrow(), "", 1, MSG_NOSIGNAL) != 1) return fail_errno("send");
  if (peer == Peer::relay && ::send(ours.borrow(), "", 1, MSG_NOSIGNAL) != 1) return fail_errno("send");
  return std::pair{std::move(theirs), std::make_unique<PlainEnd>(std::move(ours), peer)};
}

PlainEnd::PlainEnd(Fd socket, Peer peer) : socket_{std::move(socket), SOCK_STREAM}, peer_{peer} {
  take_urgent_inline(borrow());
}

PlainEnd::~PlainEnd() {
  if (!abrupt_) eat_but(0);
}

void PlainEnd::eat_but(std::size_t left) {
  std::array<char, 1 + largest_message> eaten;
  while (carried_ > left) {
    const auto count = receive_bytes(borrow(), std::span{eaten}.first(carried_ - left));
    if (count <= 0) return;
    carried_ -= static_cast<std::size_t>(count);
  }
}

int PlainEnd::events(bool, bool to_write) const {
  return UV_READABLE | UV_PRIORITIZED | UV_DISCONNECT | on_edge | (to_write ? UV_WRITABLE : 0);
}

/// Nobody may be reading now, and it is not said again.
void PlainEnd::note(int events) {
  ended_ = ended_ || (events & UV_DISCONNECT) != 0;
  has_urgent_ = has_urgent_ || (events & UV_PRIORITIZED) != 0;
  holds_more_ = true;
}

Transfer PlainEnd::read(std::span<char> buffer) {
  eat_but(1);
  auto got = was_answered_ && !has_urgent_ ? take_message(buffer) : take_queued(buffer);
  if (got.io == Io::again && ended_ && unread() > carried_) got = take_queued(buffer);
  was_answered_ = was_answered_ && got.size == 0;
  got.drained = got.drained && !ended_;
  holds_more_ = got.io == Io::done && !got.drained;
  if (got.io == Io::again && ended_) got.io = Io::closed;
  got.broken = got.io == Io::closed && was_cut();
  return got;
}

/// A program that closes with bytes unread has said all that it had to say; a relay leaves one unread only
/// where it was cut off itself.
void PlainEnd::note_error(int code) { is_cut_ = is_cut_ || (peer_ == Peer::relay && code == ECONNRESET); }

bool PlainEnd::was_cut() {
  int code = 0;
  socklen_t size = sizeof code;
  if (peer_ == Peer::relay && ::getsockopt(borrow(), SOL_SOCKET, SO_ERROR, &code, &size) == 0)
    note_error(code);
  return is_cut_;
}

/// Looks at a whole message, which is eaten later.
Transfer PlainEnd::take_message(std::span<char> buffer) {
  buffer = buffer.first(std::min(buffer.size(), largest_message));
  bool is_cut = false;
  const auto seen = receive(borrow(), carried_, buffer, MSG_PEEK, &is_cut);
  if (seen < 0 && !is_nothing(errno)) {
    note_error(errno);
    return {.io = Io::closed};
  }
  if (seen <= static_cast<ssize_t>(carried_)) return is_cut ? take_queued(buffer) : Transfer{.io = Io::again};
  const auto fresh = static_cast<std::size_t>(seen) - carried_;
  carried_ += fresh;
  return {.size = fresh, .drained = fresh < buffer.size() && !is_cut};
}

/// Takes all that is queued and fits; where that is all there is, its last byte is only looked at.
Transfer PlainEnd::take_queued(std::span<char> buffer) {
  const auto fresh = unread() - carried_;
  if (fresh == 0) return {.io = Io::again};
  const auto size = std::min(fresh, buffer.size());
  const auto whole = size - (size == fresh ? 1 : 0);
  const auto eaten = carried_ + whole > 0 ? receive(borrow(), carried_, buffer.first(whole), 0, nullptr) : 0;
  if (eaten < 0) {
    note_error(errno);
    return {.io = is_nothing(errno) ? Io::again : Io::closed};
  }
  const auto got = static_cast<std::size_t>(eaten) - carried_;
  const bool is_last = size == fresh && got == whole;
  carried_ = is_last && receive(borrow(), 0, buffer.subspan(got, 1), MSG_PEEK, nullptr) == 1 ? 1 : 0;
  if (got + carried_ > 0) return {.size = got + carried_};
  // Descriptors or an urgent byte behind the carried one have ended the read.
  return eaten > 0 && whole > 0 ? take_queued(buffer) : Transfer{.io = Io::again};
}

std::size_t PlainEnd::unread() const {
  int bytes = 0;
  const bool known = ::ioctl(borrow(), FIONREAD, &bytes) == 0;
  return std::max(known ? static_cast<std::size_t>(bytes) : 0, carried_);
}

Transfer PlainEnd::write(std::string_view bytes) {
  ssize_t count = -1;
  do count = ::send(borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  if (count < 0) {
    note_error(errno);
    return errno == EAGAIN ? Transfer{.io = Io::again} : Transfer{.io = Io::closed, .broken = true};
  }
  eat_but(1);
  was_answered_ = true;
  return {.size = static_cast<std::size_t>(count)};
}

Io PlainEnd::finish() { return ::shutdown(borrow(), SHUT_WR) == 0 ? Io::done : Io::closed; }
}  // namespace ipc
