// Carries bytes, or whole messages, between two streams until both directions have ended: for what cannot be
// handed over.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "ipc/frame.hh"
#include "ipc/loop.hh"
#include "ipc/stream.hh"

namespace ipc {

class Pump;

/// What relays carried, all of them together, told on soon after it changed and at most once a second. It
/// costs nothing while nothing is carried.
class Carried {
 public:
  using Tell = std::function<void(const Carried&)>;
  Carried(Loop& loop, Tell tell) : loop_{loop}, tell_{std::move(tell)} {}
  Carried(const Carried&) = delete;
  void add_received(std::uint64_t bytes) { add(received_, bytes); }  ///< from the network
  void add_sent(std::uint64_t bytes) { add(sent_, bytes); }          ///< to it
  std::uint64_t received() const { return received_; }
  std::uint64_t sent() const { return sent_; }

 private:
  void add(std::uint64_t& count, std::uint64_t bytes);
  Loop& loop_;
  Tell tell_;
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  Timer timer_;
};

struct RelayOptions {
  Framing framing = Framing::bytes;
  Milliseconds idle{0};  ///< ends a relay that carried nothing for this long; 0: never
  /// Counts what this relay carries too, `a` being the network's side; null: nobody does.
  Carried* carried = nullptr;
};

/// How a relay went.
struct RelayOutcome {
  enum class End : std::uint8_t { finished, reset, idle };
  End end = End::finished;
  std::uint64_t a_to_b = 0;  ///< bytes
  std::uint64_t b_to_a = 0;
};

/// With framing `bytes` the end of one direction is passed on and the other goes on, unless the side that
/// ended is gone altogether; a reset, and an idle limit that has passed, end both and are passed on as a
/// reset. With `ipc07` and `ipc1` each write towards a UNIX socket is exactly one message, no two lie unread
/// together, and the end of either direction ends both, after a drain: existing programs lose messages or die
/// otherwise (docs/protocol.md, "The libipc frame").
///
/// Buffers and pipes are borrowed only while bytes are under way: an idle relay costs about 1 KiB. A receiver
/// that does not read stops its sender, nobody else. SIGPIPE must be ignored (splice(2) has no flag for it).
class Relay {
 public:
  using OnDone = std::function<void(const RelayOutcome&)>;
  /// `on_done` is called once, in a turn of the loop; destroying the relay there is fine.
  Relay(Loop& loop, std::unique_ptr<Stream> a, std::unique_ptr<Stream> b, RelayOptions options,
        OnDone on_done);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay();
  RelayOutcome counts() const;

 private:
  enum class Phase : std::uint8_t { carrying, awaiting_reply, draining, done };
  struct Side {
    std::unique_ptr<Stream> stream;
    Poll poll{};
    int interest = 0;
  };
  void on_ready(int side, int events);
  void step(int pump);
  void step_waiting();
  void after_steps();
  bool is_over();
  void watch_half(int ended);
  void begin_closing(int ended);
  void tick_reply();
  void drain();
  void update_interest();
  void set_interest(int side, int events);
  void watch_idle();
  void finish(RelayOutcome::End end);

  Loop& loop_;
  std::array<Side, 2> sides_;
  std::array<std::unique_ptr<Pump>, 2> pumps_;  ///< [i] carries from side i to the other
  RelayOptions options_;
  OnDone on_done_;
  Timer retry_;  ///< for a pump that waits for something no descriptor tells
  Timer phase_timer_;
  Timer idle_;
  Milliseconds retry_delay_{1};
  std::uint64_t seen_ = 0;        ///< answered bytes at the last tick of the reply timer
  std::uint64_t since_ = 0;       ///< loop time when the wait for a reply began
  std::uint64_t idle_seen_ = 0;   ///< bytes at the last tick of the idle timer
  std::uint64_t idle_since_ = 0;  ///< loop time of the last tick that saw new bytes
  Phase phase_ = Phase::carrying;
  int last_moved_ = 0;  ///< the pump that last carried something
  int ended_ = 0;       ///< the pump whose end began the closing
};

}  // namespace ipc
