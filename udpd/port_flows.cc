// Flows from the router's word to the hand-over.
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "ipc/message.hh"
#include "udpd/labels.hh"
#include "udpd/port.hh"
#include "udpd/scheme.hh"

namespace udpd {
namespace {
/// How long the router has to decide.
constexpr ipc::Milliseconds admission_time{10'000};
/// How long `done` may take; it may be lost.
constexpr ipc::Milliseconds linger_time{1000};
/// Flows at a time of which the router decides, or for which it keeps a place: none for a network that takes
/// all the others'.
constexpr std::size_t most_pending = 1024, most_pending_per_prefix = 256;
/// `deliver` is one message of 64 KiB, of which base64 takes a third.
constexpr std::size_t most_early_bytes = 44'000;
/// What waits for the router or for `done`: beyond it datagrams are lost, as in any full queue.
constexpr std::size_t most_waiting_bytes = 256 * 1024, most_waiting = 256;
constexpr std::size_t smallest_share = 256;  // of a receive buffer, that a datagram takes in the kernel
}  // namespace

ipc::Result<> Port::has_room(const Peer& peer) {
  const auto busy = [](const char* what) {
    return ipc::fail(ipc::Word::busy, std::string(what) + "; try again later");
  };
  const auto found = by_prefix_.find(prefix_of(peer.address));
  const auto here = found == by_prefix_.end() ? Share{} : found->second;
  const auto is_full = [&] {
    return census_->total() + flows_.size() >= limits_.flows ||
           census_->of_prefix(peer.address) + here.flows >= limits_.flows_per_prefix;
  };
  if (pending_ >= most_pending || here.pending >= most_pending_per_prefix)
    return busy("too many flows are being accepted");
  if (is_full()) census_->look_again(now());
  if (is_full()) return busy("there are too many flows on this port, or from this network");
  return {};
}

void Port::count(const Flow& flow, int change) {
  const auto step = static_cast<std::size_t>(change);  // -1 wraps, and so does the sum
  const bool is_pending = flow.stage == Flow::Stage::asking || flow.stage == Flow::Stage::answered;
  auto& share = by_prefix_[prefix_of(flow.peer.address)];
  share.flows += step;
  if (is_pending) share.pending += step;
  if (is_pending) pending_ += step;
  if (share.flows == 0) by_prefix_.erase(prefix_of(flow.peer.address));
}

void Port::enter(Flow& flow, Flow::Stage stage) {
  count(flow, -1);
  flow.stage = stage;
  count(flow, 1);
}

/// Whatever waits for it is told: the service's socket closes, the router keeps no place for it.
void Port::drop(const Peer& peer) {
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return;
  count(*found->second, -1);
  if (const auto& token = found->second->admission.token; !token.empty()) helper_.give_up(token);
  flows_.erase(found);
}

void Port::keep_early(Flow& flow, std::string_view bytes) {
  // A flow that has its socket already can only get them in the message.
  const auto room = flow.stage == Flow::Stage::draining ? most_early_bytes : most_waiting_bytes;
  if (flow.early.size() >= most_waiting || flow.early_bytes + bytes.size() > room) return;
  flow.early.emplace_back(bytes);
  flow.early_bytes += bytes.size();
}

Outlet Port::outlet_of(const Flow& flow) const {
  return {.socket = socket_.borrow(), .to = flow.peer, .from = flow.local};
}

void Port::admit(const Arrival& arrival, const Nonce& nonce, ipc::Hop hop) {
  const auto peer = arrival.peer;
  auto& flow = *flows_.emplace(peer, std::make_unique<Flow>()).first->second;
  flow.peer = peer;
  count(flow, 1);
  flow.local = arrival.local;
  flow.nonce = nonce;
  flow.hop = std::move(hop);
  const auto local = end_towards(peer, arrival.local);
  const ipc::Arrival question{.listen = request_.id, .hop = flow.hop, .labels = labels_text(peer, local)};
  flow.question = helper_.ask_admission(
      question, admission_time,
      [this, peer](ipc::Result<ipc::Admission> answer) { on_admitted(peer, std::move(answer)); });
}

void Port::on_admitted(const Peer& peer, ipc::Result<ipc::Admission> admission) {
  auto* flow = find(peer);
  if (flow == nullptr || flow->stage != Flow::Stage::asking) return;
  if (!admission) return refuse(peer, admission.error());
  enter(*flow, Flow::Stage::answered);
  flow->admission = std::move(*admission);
  if (is_raw()) return begin(*flow);
  await_done(*flow);
}

void Port::refuse(const Peer& peer, const ipc::Error& why) {
  const auto* flow = find(peer);
  if (is_raw()) {
    recent_.put(peer, true, now());
  } else {
    auto frame = refusal_frame(why);
    say(outlet_of(*flow), Kind::answer, flow->nonce, {}, frame);
    answers_.put({peer, flow->nonce}, std::move(frame), now());
  }
  drop(peer);
}

/// Says OK, once more where it was lost. The service hears nothing before the dialler had its chance.
void Port::await_done(Flow& flow) {
  say(outlet_of(flow), Kind::answer, flow.nonce, {}, ipc::hop_ok());
  flow.linger = ipc::Timer{helper_.loop(), linger_time, [this, &flow] { begin(flow); }};
}

/// The hop is over (raw: there was none): the flow gets its socket, or is carried.
void Port::begin(Flow& flow) {
  flow.linger.stop();
  if (!is_raw()) answers_.put({flow.peer, flow.nonce}, {}, now());
  if (flow.admission.relays) return begin_relay(flow);
  if (census_->total() >= limits_.direct_flows) census_->look_again(now());
  // What does not fit a message has to go through a socket.
  if (census_->total() >= limits_.direct_flows || flow.early_bytes > most_early_bytes)
    return begin_relay(flow);
  begin_direct(flow);
}

void Port::begin_direct(Flow& flow) {
  const auto local = end_towards(flow.peer, flow.local);
  auto socket = flow_socket(local, flow.peer, !is_raw(), options_);
  if (!socket) {
    helper_.log("error", request_.uri.raw + ": " + socket.error().text);
    return drop(flow.peer);
  }
  census_->note(flow.peer.address);
  flow.socket = std::move(*socket);
  const auto queued = queued_at_most();
  if (queued == 0 && !is_taking_) return deliver(flow);
  enter(flow, Flow::Stage::draining);
  flow.drained_at = read_ + queued;
  draining_.push_back(flow.peer);
  watch_draining();
}

/// What lies in the queue may be of no use to anybody (a wrong checksum) and then makes no readiness.
void Port::watch_draining() {
  constexpr ipc::Milliseconds moment{20};
  if (draining_watch_) return;
  draining_watch_ = ipc::Timer{helper_.loop(), moment, [this] {
                                 draining_watch_.stop();
                                 on_ready();
                                 if (queued_at_most() == 0) deliver_drained(true);
                                 if (!draining_.empty()) watch_draining();
                               }};
}

/// A bound on the datagrams that lie in the listener's queue.
std::size_t Port::queued_at_most() const {
  std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
  socklen_t size = sizeof memory;
  if (::getsockopt(socket_.borrow(), SOL_SOCKET, SO_MEMINFO, memory.data(), &size) != 0) return batch_size;
  const auto bytes = memory[SK_MEMINFO_RMEM_ALLOC];
  return (bytes + smallest_share - 1) / smallest_share;
}

/// Hands over the flows before which nothing of theirs is left in the listener's queue.
void Port::deliver_drained(bool all) {
  std::erase_if(draining_, [&](const Peer& peer) {
    auto* flow = find(peer);
    if (flow == nullptr || flow->stage != Flow::Stage::draining) return true;
    if (!all && read_ < flow->drained_at) return false;
    deliver(*flow);
    return true;
  });
}

void Port::deliver(Flow& flow) {
  helper_.deliver(std::exchange(flow.admission.token, {}), std::move(flow.socket), "direct", flow.early);
  if (is_raw()) recent_.put(flow.peer, false, now());
  drop(flow.peer);
}

void Port::begin_relay(Flow& flow) {
  auto begun = relay(flow);
  if (begun) return;
  helper_.log("error", request_.uri.raw + ": " + begun.error().text);
  drop(flow.peer);
}

ipc::Result<> Port::relay(Flow& flow) {
  auto service = std::move(flow.admission.service);
  if (!flow.admission.relays) {
    auto pair = TRY(ipc::socket_pair(SOCK_DGRAM));
    TRY(ipc::set_blocking(pair.second.borrow(), true));
    ipc::bound_datagrams(pair.second.borrow(), ipc::largest_datagram(socket_.borrow()));
    helper_.deliver(std::exchange(flow.admission.token, {}), std::move(pair.second), "relay");
    service = std::move(pair.first);
  }
  flow.relay = TRY(RelayedFlow::open(helper_, std::move(service), flow.hop.framing, limits_.idle));
  flow.relay->keep(std::move(flow.admission.counted));
  enter(flow, Flow::Stage::relayed);
  flow.relay->start(outlet_of(flow), [this, peer = flow.peer] { drop(peer); });
  for (const std::string_view datagram : std::exchange(flow.early, {})) flow.relay->push({&datagram, 1});
  return {};
}

/// The socket closes; what it carries goes on over a socket for each flow, without us.
void Port::hand_on_relays() {
  for (auto& [peer, flow] : flows_) {
    if (flow->stage != Flow::Stage::relayed) continue;
    const auto local = end_towards(peer, flow->local);
    auto socket = flow_socket(local, peer, !is_raw(), options_);
    if (socket) scheme_.keep(helper_, std::move(flow->relay), std::move(*socket));
  }
}
}  // namespace udpd
