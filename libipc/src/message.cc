#include "ipc/message.hh"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "ipc/tls_socket.hh"

namespace ipc {
namespace {
constexpr std::size_t header = header_size(Framing::ipc07);
/// Of the kernel's own, in the send buffer that a UNIX datagram has to fit.
constexpr std::size_t overhead = 32;

int send_buffer_of(int socket) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &value, &size) == 0 ? value : 0;
}

std::unexpected<Error> socket_failure(std::string_view what, int code) {
  const bool gone = code == EPIPE || code == ECONNRESET || code == ENOTCONN || code == ECONNREFUSED;
  const bool unreachable = gone || code == EHOSTUNREACH || code == ENETUNREACH;
  return fail(unreachable         ? Word::unreachable
              : code == ETIMEDOUT ? Word::timeout
                                  : Word::internal,
              std::string(what) + ": " + errno_text(code));
}

/// One send or receive that never blocks and never signals.
template <class Call>
ssize_t without_interruption(Call call) {
  ssize_t count = -1;
  do count = call();
  while (count < 0 && errno == EINTR);
  return count;
}

Message message_from(const Frame& frame) { return {frame.type, frame.user_type, std::string(frame.payload)}; }
}  // namespace

/// UDP's length field less its header and, for IPv4, that of IP.
std::size_t largest_datagram(int socket) {
  constexpr std::size_t udp4 = 65'535 - 8 - 20;
  constexpr std::size_t udp6 = 65'535 - 8;
  switch (domain_of(socket)) {
    case AF_INET:
      return udp4;
    case AF_INET6:
      return udp6;
    default:
      return static_cast<std::size_t>(std::max(send_buffer_of(socket), 64)) - overhead;
  }
}

void bound_datagrams(int socket, std::size_t largest) {
  const int half = static_cast<int>((largest + overhead) / 2);  // the kernel doubles it
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &half, sizeof half);
}

MessageSocket::MessageSocket(Fd socket, std::size_t largest)
    : socket_{std::move(socket)},
      type_{type_of(socket_.borrow())},
      largest_{largest},
      reader_{Framing::ipc07, largest} {}

MessageSocket::~MessageSocket() {
  if (type_ != SOCK_STREAM || !is_kernel_tls(socket_.borrow())) return;
  constexpr Milliseconds a_moment{1000};  // a peer that does not read must not hold us up
  if (wait_ready(socket_.borrow(), POLLOUT, Deadline{a_moment}))
    send_close_notify(socket_.borrow(), MSG_DONTWAIT);
}

std::size_t MessageSocket::limit() const {
  if (type_ == SOCK_STREAM) return largest_payload(Framing::ipc07);
  return std::min(largest_datagram(socket_.borrow()) - header, largest_payload(Framing::ipc07));
}

std::unexpected<Error> MessageSocket::break_off(Error why) {
  broken_ = why;
  return std::unexpected(std::move(why));
}

Result<> MessageSocket::send(const Message& message, Milliseconds timeout) {
  if (broken_) return std::unexpected(*broken_);
  if (message.payload.size() > limit())
    return fail(Word::bad_request, "a message of " + std::to_string(message.payload.size()) +
                                       " bytes: this socket carries at most " + std::to_string(limit()));
  const auto frame = frame_07(message.type, message.user_type, message.payload);
  const Deadline deadline{timeout};
  return type_ == SOCK_STREAM ? send_stream(frame, deadline) : send_datagram(frame, deadline);
}

Result<> MessageSocket::send_datagram(std::string_view frame, const Deadline& deadline) {
  for (;;) {
    const auto count = without_interruption(
        [&] { return ::send(socket_.borrow(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT); });
    if (count >= 0) return {};
    if (errno == EMSGSIZE)
      return fail(Word::bad_request, "a datagram of " + std::to_string(frame.size()) +
                                         " bytes is more than this socket's way carries; its own limit is " +
                                         std::to_string(limit() + header));
    if (errno != EAGAIN) return socket_failure("send", errno);
    TRY(wait_ready(socket_.borrow(), POLLOUT, deadline));
  }
}

/// In one write where the socket has room: 0.7 receivers want a message whole.
Result<> MessageSocket::send_stream(std::string_view frame, const Deadline& deadline) {
  const auto whole = frame.size();
  while (!frame.empty()) {
    const auto count = without_interruption(
        [&] { return ::send(socket_.borrow(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT); });
    if (count < 0 && errno != EAGAIN) return break_off(socket_failure("send", errno).error());
    if (count > 0) frame.remove_prefix(static_cast<std::size_t>(count));
    if (frame.empty()) break;
    const auto ready = wait_ready(socket_.borrow(), POLLOUT, deadline);
    if (!ready && frame.size() < whole)
      return break_off(
          {Word::timeout, "the deadline passed within a message: the connection is of no more use"});
    TRY(ready);
  }
  return {};
}

Result<std::optional<Message>> MessageSocket::receive(Milliseconds timeout) {
  const Deadline deadline{timeout};
  return type_ == SOCK_STREAM ? receive_stream(deadline) : receive_datagram(deadline);
}

/// The next datagram, whole; nothing at the end of a seqpacket connection.
Result<std::optional<std::string>> MessageSocket::next_datagram(const Deadline& deadline) {
  for (;;) {
    TRY(wait_ready(socket_.borrow(), POLLIN, deadline));
    const auto announced = without_interruption(
        [&] { return ::recv(socket_.borrow(), nullptr, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC); });
    if (announced < 0 && errno == EAGAIN) continue;  // a bad checksum: there was nothing after all
    if (announced < 0) return socket_failure("recv", errno);
    std::string bytes(static_cast<std::size_t>(announced), '\0');
    if (bytes.size() > header + largest_) bytes.resize(0);  // read away, and no message
    const auto count = without_interruption([&] { return receive_bytes(socket_.borrow(), bytes); });
    if (count < 0 && errno == EAGAIN) continue;
    if (count < 0) return socket_failure("recv", errno);
    if (announced == 0 && type_ == SOCK_SEQPACKET) return std::nullopt;
    bytes.resize(static_cast<std::size_t>(count));
    return bytes;
  }
}

Result<std::optional<Message>> MessageSocket::receive_datagram(const Deadline& deadline) {
  const auto bytes = TRY(next_datagram(deadline));
  if (!bytes) return std::nullopt;
  const auto announced = decode_header(Framing::ipc07, *bytes);
  if (!announced || announced->length != bytes->size() - header)
    return fail(Word::bad_request, "a datagram that is not one whole message");
  return Message{announced->type, announced->user_type, bytes->substr(header)};
}

Result<> MessageSocket::look_for_message() {
  auto frame = reader_.next();
  if (!frame) return break_off(frame.error());
  if (*frame) ready_ = message_from(**frame);
  return {};
}

Result<std::optional<Message>> MessageSocket::receive_stream(const Deadline& deadline) {
  std::array<char, 16'384> part;
  while (!ready_) {
    if (broken_) return std::unexpected(*broken_);
    TRY(wait_ready(socket_.borrow(), POLLIN, deadline));
    const auto count = read_bytes(socket_.borrow(), part, MSG_DONTWAIT);
    if (count < 0 && errno == EAGAIN) continue;
    if (count < 0) return break_off(socket_failure("recv", errno).error());
    if (count == 0 && reader_.buffered() == 0) return std::nullopt;
    if (count == 0) return break_off({Word::bad_request, "the connection ended within a message"});
    reader_.feed({part.data(), static_cast<std::size_t>(count)});
    TRY(look_for_message());
  }
  auto message = std::exchange(ready_, std::nullopt);
  if (!broken_) static_cast<void>(look_for_message());  // an error is told next time, after this message
  return message;
}
}  // namespace ipc
