#include "ipc/relay.hh"

#include <sys/socket.h>

#include <algorithm>

#include "relay_pump.hh"

namespace ipc {
namespace {
using Wait = Pump::Wait;
constexpr Milliseconds tell_every{1000};
constexpr Milliseconds first_retry{1};
constexpr Milliseconds longest_retry{64};
/// How long the answer to the last message before an end of stream is waited for, and how long the direction
/// back must then be quiet.
constexpr Milliseconds reply_grace{1000};
constexpr Milliseconds reply_tick{50};
/// How long a peer has to end its side after we ended ours.
constexpr Milliseconds drain_time{2000};
/// How often a relay of which one direction has ended looks whether that side is gone altogether.
constexpr Milliseconds half_tick{1000};

std::unique_ptr<Pump> make_pump(Stream& from, Stream& to, Framing framing) {
  if (framing == Framing::bytes) return make_byte_pump(from, to, Ends::pass_on);
  if (to.is_plain() && domain_of(to.borrow()) == AF_UNIX) return make_message_pump(from, to, framing);
  return make_byte_pump(from, to, Ends::leave_be);
}
}  // namespace

void Carried::add(std::uint64_t& count, std::uint64_t bytes) {
  count += bytes;
  if (timer_ || bytes == 0) return;
  timer_ = Timer{loop_, tell_every, [this] {
                   timer_.stop();
                   tell_(*this);
                 }};
}

Relay::Relay(Loop& loop, std::unique_ptr<Stream> a, std::unique_ptr<Stream> b, RelayOptions options,
             OnDone on_done)
    : loop_{loop},
      sides_{Side{std::move(a)}, Side{std::move(b)}},
      options_{options},
      on_done_{std::move(on_done)} {
  for (int side = 0; side < 2; ++side) {
    auto& [stream, poll, interest] = sides_[side];
    pumps_[side] = make_pump(*stream, *sides_[1 - side].stream, options_.framing);
    interest = stream->events(true, false);
    poll = Poll{loop_, stream->borrow(), interest, [this, side](int events) { on_ready(side, events); }};
  }
  // What a stream read ahead (or a descriptor that cannot be watched) makes no readiness: look once.
  const bool look =
      std::ranges::any_of(sides_, [](const Side& side) { return !side.poll || side.stream->holds_more(); });
  if (look) retry_ = Timer{loop_, Milliseconds{0}, [this] { step_waiting(); }};
  if (options_.idle.count() > 0) watch_idle();
}

Relay::~Relay() = default;

RelayOutcome Relay::counts() const { return {.a_to_b = pumps_[0]->moved(), .b_to_a = pumps_[1]->moved()}; }

void Relay::on_ready(int side, int events) {
  // A TLS session may read because it could write and the other way round: let it look at both.
  sides_[side].stream->note(events);
  const bool plain = sides_[side].stream->is_plain();
  for (int i = 0; i < 2; ++i) {
    const auto wait = pumps_[i]->wait();
    const bool reads = wait == Wait::readable && i == side && (!plain || (events & UV_READABLE) != 0);
    const bool writes = wait == Wait::writable && i != side && (!plain || (events & UV_WRITABLE) != 0);
    if (reads || writes) step(i);
  }
  after_steps();
}

void Relay::step(int pump) {
  const auto before = pumps_[pump]->moved();
  pumps_[pump]->step();
  const auto moved = pumps_[pump]->moved() - before;
  if (moved == 0) return;
  last_moved_ = pump;
  if (options_.carried == nullptr) return;
  pump == 0 ? options_.carried->add_received(moved) : options_.carried->add_sent(moved);
}

void Relay::step_waiting() {
  retry_.stop();
  for (int i = 0; i < 2; ++i) {
    const auto before = pumps_[i]->moved();
    const bool holds =
        pumps_[i]->wait() == Wait::readable && (sides_[i].stream->holds_more() || !sides_[i].poll);
    if (pumps_[i]->wait() == Wait::later || holds) step(i);
    if (pumps_[i]->moved() != before) retry_delay_ = first_retry;
  }
  after_steps();
}

void Relay::after_steps() {
  if (is_over()) return;
  update_interest();
  const auto waits = [](const auto& pump) { return pump->wait() == Wait::later; };
  const bool later = std::ranges::any_of(pumps_, waits);
  const bool at_once = (pumps_[0]->wait() == Wait::readable && sides_[0].stream->holds_more()) ||
                       (pumps_[1]->wait() == Wait::readable && sides_[1].stream->holds_more());
  if (!later) retry_delay_ = first_retry;
  if ((!later && !at_once) || retry_) return;
  retry_ = Timer{loop_, at_once ? Milliseconds{0} : retry_delay_, [this] { step_waiting(); }};
  retry_delay_ = std::min(retry_delay_ * 2, longest_retry);
}

/// Looks for the ends of the directions; true when the relay is done, and then it may be destroyed already.
bool Relay::is_over() {
  const bool both = pumps_[0]->has_ended() && pumps_[1]->has_ended();
  const auto cut = [](const auto& pump) { return pump->has_ended() && pump->is_broken(); };
  const bool broken = std::ranges::any_of(pumps_, cut);
  const bool bytes = options_.framing == Framing::bytes;
  if (both || (bytes && broken)) {
    finish(broken ? RelayOutcome::End::reset : RelayOutcome::End::finished);
    return true;
  }
  const bool half = pumps_[0]->has_ended() || pumps_[1]->has_ended();
  if (!half || phase_ != Phase::carrying) return false;
  const int ended = pumps_[0]->has_ended() ? 0 : 1;
  bytes ? watch_half(ended) : begin_closing(ended);
  return false;
}

/// A side that was closed, not only shut down, takes nothing any more; while the other says nothing, no
/// failed write tells.
void Relay::watch_half(int ended) {
  if (phase_timer_) return;
  const auto look = [this, ended] {
    if (!sides_[ended].stream->hung_up()) return;
    phase_ = Phase::draining;
    phase_timer_ = Timer{loop_, drain_time, [this] { finish(RelayOutcome::End::finished); }};
  };
  phase_timer_ = Timer{loop_, half_tick, look, half_tick};
}

/// Messages only: one direction has ended and all of it was read by its target. Existing programs drop queued
/// answers when they see the end, so a question still open holds the end back for a moment.
void Relay::begin_closing(int ended) {
  ended_ = ended;
  since_ = loop_.now();
  seen_ = pumps_[1 - ended]->moved();
  const bool awaits = last_moved_ == ended && pumps_[ended]->moved() > 0 && !pumps_[ended]->is_broken() &&
                      !sides_[ended].stream->hung_up();
  if (!awaits) return drain();
  phase_ = Phase::awaiting_reply;
  phase_timer_ = Timer{loop_, reply_tick, [this] { tick_reply(); }, reply_tick};
}

void Relay::tick_reply() {
  const auto moved = pumps_[1 - ended_]->moved();
  const bool quiet = moved == std::exchange(seen_, moved);
  const bool answered = last_moved_ != ended_;
  const bool late = loop_.now() - since_ >= static_cast<std::uint64_t>(reply_grace.count());
  if (late || (answered && quiet)) drain();
}

void Relay::drain() {
  phase_ = Phase::draining;
  sides_[1 - ended_].stream->finish();
  const auto end = pumps_[ended_]->is_broken() ? RelayOutcome::End::reset : RelayOutcome::End::finished;
  phase_timer_ = Timer{loop_, drain_time, [this, end] { finish(end); }};
}

void Relay::update_interest() {
  for (int side = 0; side < 2; ++side) {
    const bool to_read = pumps_[side]->wait() == Wait::readable;
    const bool to_write = pumps_[1 - side]->wait() == Wait::writable;
    set_interest(side, sides_[side].stream->events(to_read, to_write));
  }
}

void Relay::set_interest(int side, int events) {
  if (std::exchange(sides_[side].interest, events) != events) sides_[side].poll.change(events);
}

void Relay::watch_idle() {
  idle_since_ = loop_.now();
  const Milliseconds tick{std::max<Milliseconds::rep>(options_.idle.count() / 4, 1)};
  const auto look = [this] {
    const auto moved = pumps_[0]->moved() + pumps_[1]->moved();
    if (moved != std::exchange(idle_seen_, moved)) idle_since_ = loop_.now();
    if (loop_.now() - idle_since_ >= static_cast<std::uint64_t>(options_.idle.count()))
      finish(RelayOutcome::End::idle);
  };
  idle_ = Timer{loop_, tick, look, tick};
}

void Relay::finish(RelayOutcome::End end) {
  if (phase_ == Phase::done) return;
  phase_ = Phase::done;
  auto outcome = counts();
  outcome.end = end;
  for (auto& side : sides_) side.poll.stop();
  retry_.stop();
  phase_timer_.stop();
  idle_.stop();
  // Whoever is cut off must not take that for an end in order.
  if (end != RelayOutcome::End::finished)
    for (auto& side : sides_) side.stream->make_abrupt();
  const auto on_done = std::move(on_done_);
  on_done(outcome);
}
}  // namespace ipc
