#include "tlsd/plain_end.hh"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace tlsd {
namespace {
using ipc::Io;
using ipc::Transfer;

bool watch(int edges, int socket, int operation) {
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.fd = socket}};
  return ::epoll_ctl(edges, operation, socket, &event) == 0;
}
}  // namespace

ipc::Result<std::pair<ipc::Fd, std::unique_ptr<PlainEnd>>> PlainEnd::make() {
  auto [theirs, ours] = TRY(ipc::socket_pair(SOCK_STREAM));
  ipc::Fd edges{::epoll_create1(EPOLL_CLOEXEC)};
  if (!edges) return ipc::fail_errno("epoll_create1");
  if (::send(theirs.borrow(), "", 1, MSG_NOSIGNAL) != 1) return ipc::fail_errno("send");
  if (!watch(edges.borrow(), ours.borrow(), EPOLL_CTL_ADD)) return ipc::fail_errno("epoll_ctl");
  TRY(ipc::set_blocking(theirs.borrow(), true));
  return std::pair{std::move(theirs), std::make_unique<PlainEnd>(std::move(ours), std::move(edges))};
}

PlainEnd::~PlainEnd() {
  char last = 0;
  if (!abrupt_ && carried_ == 1) ::recv(socket_.borrow(), &last, 1, MSG_DONTWAIT);
}

std::size_t PlainEnd::unread() const {
  int bytes = 0;
  return ::ioctl(socket_.borrow(), FIONREAD, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
}

/// An edge stands for both directions: the one that did not ask for it must not lose it.
void PlainEnd::take_edges() {
  epoll_event event{};
  if (::epoll_wait(edges_.borrow(), &event, 1, 0) <= 0) return;
  may_hold_more_ = true;
  ended_ = ended_ || (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (waits_to_write_ && (event.events & EPOLLOUT) != 0)
    watch(edges_.borrow(), socket_.borrow(), EPOLL_CTL_MOD);
}

Transfer PlainEnd::read(std::span<char> buffer) {
  // Before the question: whatever comes after it makes another edge.
  if (std::exchange(rested_, false)) take_edges();
  const auto queued = unread();
  const auto fresh = queued - std::min(carried_, queued);
  may_hold_more_ = fresh > 0;
  if (fresh > 0) return take(buffer, fresh);
  if (ended_) return {.io = Io::closed};
  rested_ = true;
  return {.io = Io::again};
}

Transfer PlainEnd::take(std::span<char> buffer, std::size_t fresh) {
  const auto size = std::min(fresh, buffer.size());
  const bool all = size == fresh;
  const auto whole = size - (all ? 1 : 0);  // the last one is looked at and left
  char skipped = 0;
  std::size_t got = 0;
  if (carried_ + whole > 0) {
    std::array parts{iovec{.iov_base = &skipped, .iov_len = carried_},
                     iovec{.iov_base = buffer.data(), .iov_len = whole}};
    const auto count = ::readv(socket_.borrow(), parts.data(), static_cast<int>(parts.size()));
    if (count < 0) return {.io = errno == EAGAIN || errno == EINTR ? Io::again : Io::closed};
    got = static_cast<std::size_t>(count) - carried_;
    carried_ = 0;
  }
  const bool last =
      all && got == whole && ::recv(socket_.borrow(), buffer.data() + got, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  if (last) carried_ = 1;
  return {.size = got + (last ? 1U : 0U)};
}

Transfer PlainEnd::write(std::string_view bytes) {
  ssize_t count = -1;
  do count = ::send(socket_.borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  waits_to_write_ = count < 0 && errno == EAGAIN;
  if (waits_to_write_) take_edges();  // or they would be reported again and again
  if (waits_to_write_) return {.io = Io::again};
  if (count < 0) return {.io = Io::closed, .broken = true};
  return {.size = static_cast<std::size_t>(count)};
}

Io PlainEnd::finish() { return ::shutdown(socket_.borrow(), SHUT_WR) == 0 ? Io::done : Io::closed; }

int PlainEnd::events(bool to_read, bool to_write) const { return to_read || to_write ? UV_READABLE : 0; }
}  // namespace tlsd
