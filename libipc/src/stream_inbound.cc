#include "stream_inbound.hh"

#include <array>

#include "ipc/plain_end.hh"

namespace ipc {
namespace {
/// How long the router has to decide.
constexpr Milliseconds admission_time{10'000};
/// How long a refused peer has to read its refusal before the close.
constexpr Milliseconds leave_time{1000};

/// A service's socket, or what leads on to another host.
std::unique_ptr<Stream> side_of(Admission admission) {
  if (!admission.onward) return socket_stream(std::move(admission.service));
  return std::make_unique<PlainEnd>(std::move(admission.service), PlainEnd::Peer::relay);
}
}  // namespace

Inbound::Inbound(StreamScheme& scheme, Helper& helper, const StreamListener& listener, Endpoints ends)
    : scheme_{scheme}, helper_{helper}, listener_{listener}, ends_{std::move(ends)} {}

void Inbound::begin(Fd socket) {
  auto progress = scheme_.after_accept(
      helper_, std::move(socket), listener_.context(),
      [this](Result<Established> established) { on_established(std::move(established)); });
  if (auto* done = std::get_if<0>(&progress)) return on_established(std::move(*done));
  setup_ = std::move(std::get<1>(progress));
  await_peer();
}

/// From the handshake to the end of the hop: one deadline for all of it.
void Inbound::await_peer() {
  if (deadline_) return;
  deadline_ =
      Timer{helper_.loop(), listener_.request().hop_timeout, [this] {
              const bool hop = stage_ == Stage::reading;
              const auto peer = ends_.peer ? to_string(ends_.peer->first) : "a client";
              fail({Word::timeout, peer + " did not finish its " + (hop ? "hop" : "handshake") + " in time"});
            }};
}

/// Destroys this object.
void Inbound::fail(Error failure) {
  const auto& request = listener_.request();
  failure.text = listener_.uri() + ": " + failure.text;
  scheme_.tell_failed(helper_, {.listen = request.id,
                                .labels = labels_text(request.uri.scheme, ends_, labels_),
                                .error = std::move(failure)});
  drop();
}

void Inbound::on_established(Result<Established> established) {
  if (!established) return fail(std::move(established).error());
  stream_ = std::move(established->stream);
  labels_ = std::move(established->labels);
  idle_ = shorter(established->idle, listener_.request().relay_idle);
  if (!listener_.request().service.empty()) return ask(Hop{.service = listener_.request().service});
  stage_ = Stage::reading;
  read_hop();
}

void Inbound::read_hop() {
  const auto io = reader_.read(*stream_);
  if (!io && io.error().word == Word::unreachable) return drop();  // gone: nobody to tell
  if (!io) return refuse(io.error());
  if (*io == Io::again) return watch([this](int) { read_hop(); });
  auto hop = decode_hop(reader_.frame());
  if (!hop) return refuse(hop.error());
  ask(std::move(*hop));
}

/// Waits for the peer, with the hop's deadline from the first time on.
void Inbound::watch(Poll::Callback ready) {
  await_peer();
  const int events = stream_->events(true, false);
  if (poll_) return poll_.change(events);
  poll_ = Poll{helper_.loop(), stream_->borrow(), events, std::move(ready)};
}

void Inbound::ask(Hop hop) {
  scheme_.set_aside(*this);
  stage_ = Stage::asking;
  poll_.stop();
  deadline_.stop();
  framing_ = hop.framing;
  const Arrival arrival{.listen = listener_.request().id,
                        .hop = std::move(hop),
                        .labels = labels_text(listener_.request().uri.scheme, ends_, labels_),
                        .onward = true};
  question_ = helper_.ask_admission(
      arrival, admission_time, [this](Result<Admission> admission) { on_admitted(std::move(admission)); });
}

void Inbound::on_admitted(Result<Admission> admission) {
  if (!admission) return refuse(admission.error());
  const bool raw = !listener_.request().service.empty();
  const auto ok = hop_ok();
  // Eight bytes into a fresh connection: what does not take them at once is gone.
  const bool gone = !raw && stream_->write(ok).size != ok.size();
  if (gone && !admission->relays) helper_.give_up(admission->token);
  if (gone) return drop();
  hand_over(std::move(*admission));
}

void Inbound::hand_over(Admission admission) {
  if (admission.relays) {
    const RelayOptions options{.framing = framing_, .idle = idle_};
    auto carrier = scheme_.carrier(helper_, std::move(stream_));
    if (carrier) {
      auto counted = std::move(admission.counted);
      helper_.relay(std::move(*carrier), side_of(std::move(admission)), options, std::move(counted));
    } else {
      helper_.log("error", listener_.uri() + ": " + carrier.error().text);
    }
    return drop();
  }
  auto handover = scheme_.hand_over(helper_, std::move(stream_), {.ktls = admission.ktls, .idle = idle_});
  if (handover) {
    helper_.deliver(admission.token, std::move(handover->fd), handover->path);
  } else {
    helper_.give_up(admission.token);
    helper_.log("error", listener_.uri() + ": " + handover.error().text);
  }
  drop();
}

void Inbound::refuse(const Error& failure) {
  if (!listener_.request().service.empty()) return drop();  // raw: the peer speaks another protocol
  stream_->write(hop_refusal(failure));
  leave();
}

/// Closing with bytes unread would reset the connection and could take the refusal away from the peer.
void Inbound::leave() {
  if (waits_for_router()) scheme_.take_back(*this);
  stage_ = Stage::leaving;
  stream_->finish();
  poll_.stop();
  deadline_ = Timer{helper_.loop(), leave_time, [this] { drop(); }};
  watch([this](int) { throw_away(); });
}

void Inbound::throw_away() {
  std::array<char, 4096> buffer;
  if (stream_->read(buffer).io == Io::closed) return drop();
  poll_.change(stream_->events(true, false));
}

/// Destroys this object.
void Inbound::drop() { scheme_.drop(*this); }
}  // namespace ipc
