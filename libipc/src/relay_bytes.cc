// Bytes in one direction: read and write through a borrowed buffer, or splice(2) through a borrowed pipe once
// a TCP stream towards a UNIX socket has shown that it is bulk (there splicing halves the CPU; elsewhere it
// does not pay).
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

#include "relay_pump.hh"

namespace ipc {
namespace {
constexpr int rounds_per_turn = 8;  // then the other connections have their turn
constexpr std::size_t bulk_read = 64 * 1024;
constexpr std::size_t splice_size = 1024 * 1024;

class BytePump final : public Pump {
 public:
  BytePump(Stream& from, Stream& to, Ends ends)
      : Pump{from, to},
        ends_{ends},
        may_splice_{from.is_plain() && to.is_plain() && domain_of(from.borrow()) != AF_UNIX &&
                    domain_of(to.borrow()) == AF_UNIX} {}
  ~BytePump() override {
    if (in_pipe_ > 0) pipe_.spoil();
  }

  void step() override {
    for (int round = 0; round < rounds_per_turn; ++round)
      if (!carry()) return;
    wait_ = has_pending() ? Wait::writable : Wait::readable;
  }

 private:
  bool has_pending() const { return begin_ < end_ || in_pipe_ > 0; }

  bool carry() {
    if (has_pending() && !flush()) return false;
    return source_ended_ ? end() : fill();
  }

  bool fill() {
    if (may_splice_ && is_bulk_ && !target_gone_) return fill_pipe();
    return fill_buffer();
  }

  bool fill_buffer() {
    if (!buffer_) buffer_ = Buffer::borrow();
    const auto got = from_.read(buffer_.bytes());
    if (got.io == Io::again) return rest();
    if (got.io == Io::closed) return end_of_source(got.broken);
    is_bulk_ = got.size >= bulk_read;
    is_drained_ = got.drained;
    begin_ = 0;
    end_ = target_gone_ ? 0 : got.size;
    return flush();
  }

  bool fill_pipe() {
    if (!pipe_) pipe_ = Pipe::borrow();
    if (!pipe_) return fill_buffer();
    const auto count = ::splice(from_.borrow(), nullptr, pipe_.in(), nullptr, splice_size,
                                SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count < 0 && errno == EINTR) return true;
    if (count < 0 && errno == EINVAL) return fill_buffer();  // a record that splice cannot take
    const bool is_rest = count < 0 && errno == EAGAIN;
    // At an urgent byte (TCP's) splice stops for good, as if nothing or an end stood there; recv does not.
    if ((is_rest || count == 0) && has_bytes()) return fill_buffer();
    if (is_rest) return rest();
    if (count <= 0) return end_of_source(count < 0);
    in_pipe_ = static_cast<std::size_t>(count);
    is_bulk_ = in_pipe_ >= bulk_read / 4;
    return flush();
  }

  bool has_bytes() const {
    char byte = 0;
    return ::recv(from_.borrow(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
  }

  bool flush() {
    if (target_gone_) return throw_away();
    return in_pipe_ > 0 ? flush_pipe() : flush_buffer();
  }

  bool flush_buffer() {
    while (begin_ < end_) {
      const auto bytes = buffer_.bytes().subspan(begin_, end_ - begin_);
      const auto put = to_.write({bytes.data(), bytes.size()});
      if (put.io == Io::again) return wait_for(Wait::writable);
      if (put.io == Io::closed) return target_closed();
      begin_ += put.size;
      moved_ += put.size;
    }
    // Asking again would only cost a call that says so.
    return is_drained_ && !source_ended_ ? rest() : true;
  }

  bool flush_pipe() {
    while (in_pipe_ > 0) {
      const auto count =
          ::splice(pipe_.out(), nullptr, to_.borrow(), nullptr, in_pipe_, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && errno == EAGAIN) return wait_for(Wait::writable);
      if (count <= 0) return target_closed();
      in_pipe_ -= static_cast<std::size_t>(count);
      moved_ += static_cast<std::size_t>(count);
    }
    return true;
  }

  /// Nothing to do until the source has more: what was borrowed goes back.
  bool rest() {
    buffer_ = Buffer{};
    pipe_ = Pipe{};
    is_drained_ = false;
    return wait_for(Wait::readable);
  }

  bool throw_away() {
    begin_ = end_ = 0;
    if (in_pipe_ > 0) pipe_.spoil();
    in_pipe_ = 0;
    return true;
  }

  bool target_closed() {
    target_gone_ = true;
    throw_away();
    if (ends_ == Ends::leave_be) return true;
    rest();
    return wait_for(Wait::nothing);
  }

  bool end_of_source(bool broken) {
    source_ended_ = true;
    broken_ = broken;
    return end();
  }

  bool end() {
    rest();
    if (ends_ == Ends::pass_on && !broken_ && to_.finish() == Io::again) return wait_for(Wait::writable);
    return wait_for(Wait::nothing);
  }

  Ends ends_;
  bool may_splice_;
  bool is_bulk_ = false;
  bool is_drained_ = false;
  Buffer buffer_;
  Pipe pipe_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t in_pipe_ = 0;
};
}  // namespace

std::unique_ptr<Pump> make_byte_pump(Stream& from, Stream& to, Ends ends) {
  return std::make_unique<BytePump>(from, to, ends);
}
}  // namespace ipc
