#include "tlsd/handshake.hh"

#include <algorithm>
#include <utility>

#include "tlsd/authenticate.hh"
#include "tlsd/fault.hh"

namespace tlsd {
namespace {
using ipc::Established;
using ipc::Io;
using ipc::Milliseconds;
using ipc::Result;

constexpr int steps_per_turn = 1;
/// How long a TLS 1.3 server that asked for our certificate has to say that it does not like it: some round
/// trips, as the handshake has shown them.
constexpr Milliseconds least_patience{250};
constexpr Milliseconds most_patience{1000};
}  // namespace

bool Turns::take(Handshake& handshake) {
  if (!timer_) timer_ = ipc::Timer{loop_, Milliseconds{0}, [this] { next_turn(); }};
  if (used_ < steps_per_turn && waiting_.empty()) {
    ++used_;
    return true;
  }
  waiting_.push_back(&handshake);
  return false;
}

void Turns::leave(Handshake& handshake) { std::erase(waiting_, &handshake); }

void Turns::next_turn() {
  timer_.stop();
  used_ = 0;
  while (used_ < steps_per_turn && !waiting_.empty()) {
    ++used_;
    auto* next = waiting_.front();
    waiting_.pop_front();
    next->step_later();  // may destroy it, and others with it
  }
  if (!timer_ && !waiting_.empty()) timer_ = ipc::Timer{loop_, Milliseconds{0}, [this] { next_turn(); }};
}

ipc::Progress Handshake::begin(ipc::Loop& loop, Turns& turns, std::unique_ptr<Session> session,
                               ipc::OnEstablished done) {
  auto handshake = std::make_unique<Handshake>(loop, turns, std::move(session), std::move(done));
  if (!turns.take(*handshake)) {
    handshake->is_waiting_ = true;
    return handshake;
  }
  auto outcome = handshake->step();
  if (outcome) return std::move(*outcome);
  return handshake;
}

Handshake::Handshake(ipc::Loop& loop, Turns& turns, std::unique_ptr<Session> session, ipc::OnEstablished done)
    : loop_{loop}, turns_{turns}, session_{std::move(session)}, done_{std::move(done)}, began_{loop.now()} {
  const auto limit = session_->facts().context->settings().handshake_timeout;
  if (limit.count() == 0) return;
  timeout_ =
      ipc::Timer{loop_, limit, [this] {
                   finish(ipc::fail(ipc::Word::timeout, "the TLS handshake with " + session_->facts().peer +
                                                            " took longer than handshake_timeout"));
                 }};
}

Handshake::~Handshake() { leave_turns(); }

void Handshake::leave_turns() {
  if (std::exchange(is_waiting_, false)) turns_.leave(*this);
}

void Handshake::on_ready() {
  if (is_waiting_) return;
  if (turns_.take(*this)) return go_on();
  is_waiting_ = true;
  poll_.change(0);
}

void Handshake::step_later() {
  is_waiting_ = false;
  go_on();
}

void Handshake::go_on() {
  auto outcome = step();
  if (outcome) finish(std::move(*outcome));
}

Handshake::Outcome Handshake::step() {
  if (is_through_) return look_for_first_word();
  const auto io = session_->shake_hands();
  if (io == Io::done) return after_handshake();
  if (io == Io::closed) return std::unexpected(fault_in_handshake(*session_));
  watch();
  return std::nullopt;
}

/// A TLS 1.3 client is through before the server has judged its certificate. What the server says then would
/// reach only somebody who reads plain bytes, so it is waited for here, for a moment.
Handshake::Outcome Handshake::after_handshake() {
  const auto& facts = session_->facts();
  const bool judged_later = facts.context->role() == Role::client && facts.asked_for_certificate &&
                            SSL_version(session_->raw()) >= TLS1_3_VERSION;
  if (!judged_later) return established();
  is_through_ = true;
  const Milliseconds round_trips{static_cast<Milliseconds::rep>(4 * (loop_.now() - began_))};
  patience_ = ipc::Timer{loop_, std::clamp(round_trips, least_patience, most_patience),
                         [this] { finish(established()); }};
  return look_for_first_word();
}

Handshake::Outcome Handshake::look_for_first_word() {
  const auto io = session_->look_for_first_word();
  if (io == Io::done) return established();
  if (io == Io::closed) return std::unexpected(fault_in_handshake(*session_));
  watch();
  return std::nullopt;
}

Result<Established> Handshake::established() {
  auto labels = authenticate_peer(*session_);
  if (!labels) return std::unexpected(std::move(labels).error());
  session_->facts().psk.reset();  // it has served
  const auto idle = session_->facts().context->settings().idle_timeout;
  return Established{std::move(session_), std::move(*labels), idle};
}

void Handshake::watch() {
  if (poll_) return poll_.change(session_->wants());
  poll_ = ipc::Poll{loop_, session_->borrow(), session_->wants(), [this](int) { on_ready(); }};
}

/// May destroy this object; where it does not, nothing may step it any more: the session is gone.
void Handshake::finish(Result<Established> outcome) {
  leave_turns();
  poll_.stop();
  timeout_.stop();
  patience_.stop();
  const auto done = std::move(done_);
  done(std::move(outcome));
}
}  // namespace tlsd
