#include "ipc/connect.hh"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

namespace ipc {
namespace {
constexpr Milliseconds stagger{250};  // RFC 8305, "Connection Attempt Delay"

int bind_source(int socket, const Address& source) {
  // The port is chosen at connect: many connections may then share one towards different peers. Only bind(2)
  // looks at the option (ip(7)), and no handed-over socket keeps it.
  const auto without_port = [socket](int on) {
    ::setsockopt(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  };
  sockaddr_storage storage;
  const auto size = to_sockaddr(source, 0, storage);
  without_port(1);
  const int code = ::bind(socket, reinterpret_cast<const sockaddr*>(&storage), size) == 0 ? 0 : errno;
  without_port(0);
  return code;
}

bool is_exhausted(int code) { return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM; }

/// 0 when connected, EINPROGRESS while it goes on, else why it failed.
int state_of(int socket) {
  pollfd state{.fd = socket, .events = POLLOUT, .revents = 0};
  if (::poll(&state, 1, 0) == 0) return EINPROGRESS;
  if ((state.revents & (POLLERR | POLLHUP)) == 0) return 0;
  int code = 0;
  socklen_t size = sizeof code;
  ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &size);
  return code;
}

int begin_connect(int socket, const Address& address, std::uint16_t port) {
  sockaddr_storage storage;
  const auto size = to_sockaddr(address, port, storage);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&storage), size) == 0) return 0;
  if (errno != EINPROGRESS && errno != EINTR) return errno;
  // On loopback the handshake is over by now: one poll(2) spares arming a watch.
  return state_of(socket);
}
}  // namespace

std::vector<Address> interleaved(const std::vector<Address>& addresses) {
  if (addresses.size() < 2) return addresses;
  std::vector<Address> first, second, mixed;
  for (const auto& address : addresses)
    (address.v6 == addresses.front().v6 ? first : second).push_back(address);
  for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
    if (i < first.size()) mixed.push_back(first[i]);
    if (i < second.size()) mixed.push_back(second[i]);
  }
  return mixed;
}

std::optional<Result<Connected>> Connector::start(OnDone on_done) {
  plan_.addresses = interleaved(plan_.addresses);
  auto done = try_next();
  if (!done) on_done_ = std::move(on_done);
  return done;
}

/// Begins with the next address that does not fail at once. A result when one is connected or all have
/// failed.
std::optional<Result<Connected>> Connector::try_next() {
  while (next_ < plan_.addresses.size()) {
    const auto index = next_++;
    const auto& address = plan_.addresses[index];
    if (plan_.source && plan_.source->v6 != address.v6) {
      note_failure(index, EADDRNOTAVAIL);
      continue;
    }
    Fd socket{::socket(address.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    int code = socket ? 0 : errno;
    if (code == 0 && plan_.source) code = bind_source(socket.borrow(), *plan_.source);
    if (code == 0) code = begin_connect(socket.borrow(), address, plan_.port);
    if (code == 0) return Connected{std::move(socket), address};
    if (code != EINPROGRESS) {
      note_failure(index, code);
      continue;
    }
    const int raw = socket.borrow();
    attempts_.push_back(
        {std::move(socket), index, Poll{loop_, raw, UV_WRITABLE, [this, raw](int) { on_ready(raw); }}});
    if (next_ < plan_.addresses.size()) stagger_ = Timer{loop_, stagger, [this] { go_on(); }};
    return std::nullopt;
  }
  stagger_.stop();
  if (attempts_.empty()) return failure();
  return std::nullopt;
}

void Connector::go_on() {
  stagger_.stop();
  auto done = try_next();
  if (!done) return;
  const auto tell = std::move(on_done_);
  tell(std::move(*done));
}

void Connector::on_ready(int socket) {
  const auto found = std::ranges::find_if(
      attempts_, [socket](const Attempt& attempt) { return attempt.socket.borrow() == socket; });
  if (found == attempts_.end()) return;
  const int code = state_of(socket);
  if (code == EINPROGRESS) return;
  auto attempt = std::move(*found);
  attempts_.erase(found);
  attempt.poll.stop();
  if (code != 0) {
    note_failure(attempt.index, code);
    return go_on();
  }
  attempts_.clear();
  stagger_.stop();
  const auto tell = std::move(on_done_);
  tell(Connected{std::move(attempt.socket), plan_.addresses[attempt.index]});
}

void Connector::note_failure(std::size_t index, int code) {
  if (failed_code_ != 0 && index > failed_index_) return;
  failed_index_ = index;
  failed_code_ = code;
}

std::unexpected<Error> Connector::failure() const {
  if (plan_.addresses.empty()) return fail(Word::unreachable, plan_.name + " has no address");
  const auto word = is_exhausted(failed_code_) ? Word::busy : Word::unreachable;
  return fail(word, "cannot connect to " + plan_.name + " (" + to_string(plan_.addresses[failed_index_]) +
                        "): " + errno_text(failed_code_));
}

void set_tcp_options(int socket) {
  const auto set = [socket](int level, int name, int value) {
    ::setsockopt(socket, level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 6);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);  // last: from then on each of the others would set the timer anew
}

void prepare_for_handover(int socket) {
  int blocking = 0;
  ::ioctl(socket, FIONBIO, &blocking);
  set_tcp_options(socket);
}
}  // namespace ipc
