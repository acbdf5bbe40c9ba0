// Messages in one direction, towards a program whose one read must find exactly one message
// (docs/protocol.md, "The libipc frame").
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "relay_pump.hh"

namespace ipc {
namespace {
constexpr int rounds_per_turn = 16;
// A write of up to this many bytes is one segment of the kernel's; a descriptor attached to it keeps the next
// message out of the same read.
constexpr std::size_t largest_segment = 36'544;
// Descriptors in flight count against the RLIMIT_NOFILE of the user, whose other programs must be able to
// send theirs however many receivers do not read.
constexpr int most_unread_barriers = 32;
constexpr int most_unread_barriers_of_all = 1024;
// Of 64 ms each: a receiver that has not read the last message by then will not.
constexpr int most_waits_at_end = 1000;
constexpr int largest_send_buffer = 8 * 1024 * 1024;

/// The throw-away descriptor: receivers discard it, or get an empty file.
int barrier() {
  static const Fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  return file.borrow();
}

/// Barriers that may lie unread anywhere, as far as their senders know.
int& barriers_of_all() {
  static thread_local int count = 0;
  return count;
}

void grow_send_buffer(int socket) {
  const int wanted = largest_send_buffer;
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) == 0) return;
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);  // cut to net.core.wmem_max
}

class MessagePump final : public Pump {
 public:
  MessagePump(Stream& from, Stream& to, Framing framing)
      : Pump{from, to}, framing_{framing}, reader_{framing} {
    grow_send_buffer(to.borrow());
  }
  ~MessagePump() override { forget_barriers(); }

  void step() override {
    for (int round = 0; round < rounds_per_turn; ++round)
      if (!carry()) return;
    // With whole messages left in the reader readiness would not bring us back.
    wait_ = message_.empty() && reader_.buffered() == 0 ? Wait::readable : Wait::later;
  }

 private:
  bool carry() {
    if (message_.empty() && !next_message()) return source_ended_ ? end() : fill();
    if (target_gone_) return forget_message();
    return sent_ > 0 ? send_rest() : send_message();
  }

  /// False when no whole message is there.
  bool next_message() {
    while (!is_garbage_) {
      const auto next = reader_.next();
      if (!next) source_ended_ = broken_ = is_garbage_ = true;
      if (!next || !*next) return false;
      message_ = (*next)->whole;
      // A v1 receiver takes an empty message for the end of the connection.
      if (framing_ == Framing::ipc07 || !(*next)->payload.empty()) return true;
      message_ = {};
    }
    return false;
  }

  bool fill() {
    const auto buffer = Buffer::borrow();
    const auto got = from_.read(buffer.bytes());
    if (got.io == Io::again) return wait_for(Wait::readable);
    if (got.io == Io::closed) {
      source_ended_ = true;
      broken_ = got.broken;
      return true;
    }
    if (!target_gone_) reader_.feed({buffer.bytes().data(), got.size});
    return true;
  }

  bool send_message() {
    const bool fits = message_.size() <= largest_segment;
    if (fits && !needs_empty_queue_ && !has_barrier_trouble_ && may_add_barrier()) return send_with_barrier();
    if (unread() > 0) return wait_for(Wait::later);
    needs_empty_queue_ = false;
    forget_barriers();
    return fits && !has_barrier_trouble_ ? send_with_barrier() : send_bare();
  }

  bool may_add_barrier() const {
    return unread_barriers_ < most_unread_barriers && barriers_of_all() < most_unread_barriers_of_all;
  }

  void forget_barriers() { barriers_of_all() -= std::exchange(unread_barriers_, 0); }

  bool send_with_barrier() {
    const int fd = barrier();
    std::size_t sent = 0;
    const auto io = fd < 0 ? fail(Word::internal, "no barrier")
                           : send_with_fds(to_.borrow(), message_, std::span{&fd, 1}, &sent);
    if (!io) {  // too many descriptors in flight, or refused by the receiver
      has_barrier_trouble_ = needs_empty_queue_ = true;
      return true;
    }
    if (*io == Io::again) return wait_for(Wait::writable);
    if (*io == Io::closed) return lose_target();
    ++unread_barriers_;
    ++barriers_of_all();
    needs_empty_queue_ = sent < message_.size();
    return count(sent);
  }

  bool send_bare() {
    if (message_.size() > largest_segment && !std::exchange(has_grown_, true)) grow_send_buffer(to_.borrow());
    has_barrier_trouble_ = false;
    needs_empty_queue_ = true;
    return send_rest();
  }

  bool send_rest() {
    const auto put = to_.write(message_.substr(sent_));
    if (put.io == Io::again) return wait_for(Wait::writable);
    if (put.io == Io::closed) return lose_target();
    return count(put.size);
  }

  bool count(std::size_t sent) {
    sent_ += sent;
    moved_ += sent;
    return sent_ < message_.size() ? true : forget_message();
  }

  bool forget_message() {
    message_ = {};
    sent_ = 0;
    return true;
  }

  bool lose_target() {
    target_gone_ = true;
    return forget_message();
  }

  /// Bytes that the receiver has not read.
  int unread() const {
    int bytes = 0;
    return ::ioctl(to_.borrow(), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
  }

  bool end() {
    // What follows (the end of the stream) must not overtake the last message in the receiver's eyes.
    if (!target_gone_ && unread() > 0 && ++waits_at_end_ < most_waits_at_end) return wait_for(Wait::later);
    return wait_for(Wait::nothing);
  }

  Framing framing_;
  FrameReader reader_;
  std::string_view message_{};  ///< in `reader_`, being sent
  std::size_t sent_ = 0;
  int unread_barriers_ = 0;
  int waits_at_end_ = 0;
  bool needs_empty_queue_ = false;
  bool has_grown_ = false;
  bool has_barrier_trouble_ = false;
  bool is_garbage_ = false;
};
}  // namespace

std::unique_ptr<Pump> make_message_pump(Stream& from, Stream& to, Framing framing) {
  return std::make_unique<MessagePump>(from, to, framing);
}
}  // namespace ipc
