// Messages of libipc 0.7 over any connected socket, with deadlines instead of hangs.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/deadline.hh"
#include "ipc/fd.hh"
#include "ipc/frame.hh"

namespace ipc {

struct Message {
  std::uint8_t type = static_cast<std::uint8_t>(FrameType::data);
  std::uint8_t user_type = 0;  ///< the application's
  std::string payload{};
};

/// The largest datagram that can leave `socket`.
std::size_t largest_datagram(int socket);
/// Lets larger ones than `largest` not leave an AF_UNIX socket (EMSGSIZE, for one byte less where that is
/// odd): for the end of a pair whose datagrams go on over UDP, where nobody hears of one that is lost.
void bound_datagrams(int socket, std::size_t largest);

/// Whole messages in the 0.7 frame (docs/protocol.md, section 6). On stream sockets messages may come in any
/// fragments and several at a time; on datagram and seqpacket sockets each is one datagram. Leaves the
/// socket's options and flags alone. Not for use by several threads at a time.
class MessageSocket {
 public:
  /// Owns `socket`. Announced payloads of more than `largest` bytes end the conversation.
  explicit MessageSocket(Fd socket, std::size_t largest = largest_payload(Framing::ipc07));
  MessageSocket(MessageSocket&&) = default;
  MessageSocket& operator=(MessageSocket&&) = delete;
  /// Says the end in order, on the kernel's TLS, too.
  ~MessageSocket();

  /// Sends the whole message. BAD_REQUEST: too large, with the limit that holds on this socket, and nothing
  /// was sent. TIMEOUT after a part was sent breaks a stream for good. UNREACHABLE: the other side is gone.
  Result<> send(const Message& message, Milliseconds timeout = std::chrono::seconds{30});
  /// The next message; nothing when the other side ended between messages (streams, seqpacket). TIMEOUT keeps
  /// what came so far. BAD_REQUEST: what came is no message (a datagram: the next may be one; a stream: for
  /// good), or the stream ended within one.
  Result<std::optional<Message>> receive(Milliseconds timeout = std::chrono::seconds{30});
  /// For poll(2). A message may wait in our buffer without the socket being readable: see `has_message`.
  int borrow() const { return socket_.borrow(); }
  /// Whether `receive` will answer without waiting for the socket.
  bool has_message() const { return ready_.has_value() || broken_.has_value(); }
  /// The socket; what was received and not yet given out is lost.
  Fd take() && { return std::move(socket_); }
  /// The largest payload that `send` accepts on this socket.
  std::size_t limit() const;

 private:
  Result<> send_datagram(std::string_view frame, const Deadline& deadline);
  Result<> send_stream(std::string_view frame, const Deadline& deadline);
  Result<std::optional<std::string>> next_datagram(const Deadline& deadline);
  Result<std::optional<Message>> receive_datagram(const Deadline& deadline);
  Result<std::optional<Message>> receive_stream(const Deadline& deadline);
  Result<> look_for_message();
  std::unexpected<Error> break_off(Error why);

  Fd socket_;
  int type_;
  std::size_t largest_;
  FrameReader reader_;
  std::optional<Message> ready_{};
  std::optional<Error> broken_{};
};

}  // namespace ipc
