// Handshakes under way, and how much of a turn of the loop they may take.
#pragma once
#include <deque>
#include <memory>

#include "ipc/stream_scheme.hh"
#include "tlsd/session.hh"

namespace tlsd {

class Handshake;

/// A handshake step costs up to a millisecond of CPU, a relay's turn microseconds: so only one step goes in
/// one turn of the loop, the others wait for the next ones in the order they came.
class Turns {
 public:
  explicit Turns(ipc::Loop& loop) : loop_{loop} {}
  /// Whether the caller may step now; else it is called (`Handshake::step_later`) in a later turn.
  bool take(Handshake& handshake);
  /// Forgets one that ends.
  void leave(Handshake& handshake);
  /// So many wait that a newcomer would wait too long.
  bool are_crowded() const { return waiting_.size() >= crowd; }

 private:
  static constexpr std::size_t crowd = 128;
  void next_turn();
  ipc::Loop& loop_;
  ipc::Timer timer_;
  int used_ = 0;
  std::deque<Handshake*> waiting_;
};

class Handshake final : public ipc::Setup {
 public:
  /// Begins. The outcome at once, or the work that goes on.
  static ipc::Progress begin(ipc::Loop& loop, Turns& turns, std::unique_ptr<Session> session,
                             ipc::OnEstablished done);
  Handshake(ipc::Loop& loop, Turns& turns, std::unique_ptr<Session> session, ipc::OnEstablished done);
  Handshake(const Handshake&) = delete;
  ~Handshake() override;
  void step_later();
  bool waits_for_peer() const override { return !is_waiting_; }

 private:
  using Outcome = std::optional<ipc::Result<ipc::Established>>;
  Outcome step();
  Outcome after_handshake();
  Outcome look_for_first_word();
  ipc::Result<ipc::Established> established();
  void on_ready();
  void go_on();
  void watch();
  void leave_turns();
  void finish(ipc::Result<ipc::Established> outcome);

  ipc::Loop& loop_;
  Turns& turns_;
  std::unique_ptr<Session> session_;
  ipc::OnEstablished done_;
  ipc::Poll poll_;
  ipc::Timer timeout_;
  ipc::Timer patience_;
  std::uint64_t began_ = 0;
  bool is_waiting_ = false;
  bool is_through_ = false;  ///< the handshake is; the far side's first word is looked for
};

}  // namespace tlsd
