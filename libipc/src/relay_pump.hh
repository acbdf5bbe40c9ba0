// One direction of a relay. Private to libipc.
#pragma once
#include <memory>

#include "ipc/frame.hh"
#include "ipc/stream.hh"
#include "relay_pool.hh"

namespace ipc {

class Pump {
 public:
  /// What must happen before another `step` is of use; `later`: time must pass.
  enum class Wait : std::uint8_t { readable, writable, later, nothing };

  Pump(Stream& from, Stream& to) : from_{from}, to_{to} {}
  Pump(const Pump&) = delete;
  virtual ~Pump() = default;
  /// Carries what it can, up to a fair share of one turn.
  virtual void step() = 0;
  Wait wait() const { return wait_; }
  bool has_ended() const { return wait_ == Wait::nothing; }
  /// The source was cut, not finished.
  bool is_broken() const { return broken_; }
  std::uint64_t moved() const { return moved_; }

 protected:
  /// Returns false, so that steps can end with it.
  bool wait_for(Wait what) {
    wait_ = what;
    return false;
  }

  Stream& from_;
  Stream& to_;
  std::uint64_t moved_ = 0;
  Wait wait_ = Wait::readable;
  bool broken_ = false;
  bool source_ended_ = false;
  bool target_gone_ = false;  ///< nobody takes bytes any more: what comes is thrown away
};

/// How a byte pump treats the ends of its streams.
enum class Ends : std::uint8_t {
  pass_on,   ///< end of source: finish the target; target gone: stop
  leave_be,  ///< the relay finishes the target; target gone: read on and throw away
};

std::unique_ptr<Pump> make_byte_pump(Stream& from, Stream& to, Ends ends);
/// Whole messages, one write each, never two unread; `to` is a UNIX stream socket. Ends when the source has
/// ended and all messages have been read by the target.
std::unique_ptr<Pump> make_message_pump(Stream& from, Stream& to, Framing framing);

}  // namespace ipc
