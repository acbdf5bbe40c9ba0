// Datagrams that come in, and to whom they belong. What becomes of flows: port_flows.cc.
#include "udpd/port.hh"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "udpd/scheme.hh"

namespace udpd {
namespace {
constexpr int rounds_per_turn = 8;  // then other sockets have their turn, whoever floods this one
constexpr std::uint64_t answers_life = 2 * CookieJar::epoch_ms;  // as long as any cookie is good
constexpr std::size_t most_answers = 16'384;
constexpr std::uint64_t recent_life = 2000;
constexpr std::size_t most_recent = 16'384;

ipc::Result<ipc::Hop> decode_hello(std::string_view bytes) {
  const auto frame = whole_frame(bytes);
  if (!frame) return ipc::fail(ipc::Word::bad_request, "the hop is no whole frame");
  return ipc::decode_hop(*frame);
}
}  // namespace

std::size_t Port::HopKeyHash::operator()(const HopKey& key) const {
  std::uint64_t random = 0;
  std::memcpy(&random, key.nonce.data(), sizeof random);
  return PeerHash{}(key.peer) ^ static_cast<std::size_t>(random);
}

Port::Port(Udp& scheme, ipc::Helper& helper, const ipc::ListenRequest& request)
    : scheme_{scheme},
      helper_{helper},
      request_{request},
      limits_{limits(request)},
      options_{socket_options(request.settings)},
      answers_{answers_life, most_answers},
      recent_{recent_life, most_recent} {}

Port::~Port() {
  poll_.stop();
  hand_on_relays();
}

ipc::Result<> Port::open(Peer& at) {
  socket_ = TRY(listen_socket(at, options_));
  cookies_ = TRY(CookieJar::open());
  at_ = at;
  census_.emplace(at.port, at.address.v6);
  census_->look_again(now());
  poll_ = ipc::Poll{helper_.loop(), socket_.borrow(), UV_READABLE, [this](int) { on_ready(); }};
  return {};
}

/// Link-local ends are behind one interface, both of them.
Peer Port::end_towards(const Peer& peer, const std::optional<ipc::Address>& local) const {
  return {local.value_or(at_.address), at_.port, peer.scope};
}

Port::Flow* Port::find(const Peer& peer) {
  const auto found = flows_.find(peer);
  return found == flows_.end() ? nullptr : found->second.get();
}

void Port::on_ready() {
  for (int round = 0; round < rounds_per_turn; ++round) {
    const auto batch = receive(socket_.borrow());
    read_ += batch.arrivals.size();
    is_taking_ = true;
    take(batch.arrivals);
    is_taking_ = false;
    if (!replies_.empty()) send(socket_.borrow(), std::span<const Letter>{replies_});
    replies_.clear();
    const bool was_all = batch.arrivals.size() < batch_size;
    if (!draining_.empty()) deliver_drained(was_all);
    if (was_all) return;
  }
}

/// Datagrams of one relayed peer that lie together go on together.
void Port::take(std::span<const Arrival> arrivals) {
  while (!arrivals.empty()) {
    auto* flow = find(arrivals.front().peer);
    std::size_t done = 1;
    if (flow != nullptr && flow->stage == Flow::Stage::relayed) {
      done = push_run(*flow, arrivals);
    } else {
      take_one(arrivals.front());
    }
    arrivals = arrivals.subspan(done);
  }
}

/// Returns how many datagrams it took; a flow that turns out to be over begins again with them.
std::size_t Port::push_run(Flow& flow, std::span<const Arrival> arrivals) {
  const auto peer = flow.peer;
  std::array<std::string_view, batch_size> views;
  std::size_t count = 0, run = 0;
  for (; run < arrivals.size() && arrivals[run].peer == peer; ++run) {
    if (is_raw() || !has_magic(arrivals[run].bytes)) {
      views[count++] = arrivals[run].bytes;
    } else if (run == 0) {
      take_one(arrivals.front());
      return 1;
    } else {
      break;
    }
  }
  if (flow.relay->push(std::span{views}.first(count))) return run;
  drop(peer);
  for (const auto& arrival : arrivals.first(run)) take_one(arrival);
  return run;
}

void Port::take_one(const Arrival& arrival) {
  if (arrival.peer.port == 0) return;  // nobody can be answered there
  if (is_raw()) return take_raw(arrival);
  if (const auto datagram = decode(arrival.bytes)) return take_hop(arrival, *datagram);
  if (has_magic(arrival.bytes)) return;
  if (auto* flow = find(arrival.peer)) take_known(*flow, arrival);
}

void Port::take_raw(const Arrival& arrival) {
  if (auto* flow = find(arrival.peer)) return take_known(*flow, arrival);
  if (const auto* refused = recent_.find(arrival.peer, now())) {
    if (*refused || is_connected(end_towards(arrival.peer, arrival.local), arrival.peer)) return;
    recent_.forget(arrival.peer);
  }
  if (is_self(arrival)) return;
  if (!has_room(arrival.peer)) return;
  admit(arrival, {}, {.service = request_.service});
  if (auto* flow = find(arrival.peer)) keep_early(*flow, arrival.bytes);
}

/// With our own address and port as its source, which is forged: both ends of the flow would be the
/// service's, which would hear what it says for ever.
bool Port::is_self(const Arrival& arrival) const {
  if (arrival.peer.port != at_.port) return false;
  return arrival.local ? is_of_this_host(arrival.peer) : arrival.peer.address == at_.address;
}

/// A datagram of the service's.
void Port::take_known(Flow& flow, const Arrival& arrival) {
  switch (flow.stage) {
    case Flow::Stage::asking:
      if (is_raw()) keep_early(flow, arrival.bytes);
      return;
    case Flow::Stage::answered:  // the dialler has our OK, or it could not speak
      keep_early(flow, arrival.bytes);
      return begin(flow);
    case Flow::Stage::draining:
      return keep_early(flow, arrival.bytes);
    case Flow::Stage::relayed: {
      const auto peer = flow.peer;
      if (!flow.relay->push({&arrival.bytes, 1})) drop(peer);
    }
  }
}

void Port::take_hop(const Arrival& arrival, const HopDatagram& datagram) {
  if (datagram.kind == Kind::hello) return take_hello(arrival, datagram);
  auto* flow = find(arrival.peer);
  if (flow == nullptr || flow->stage != Flow::Stage::answered || flow->nonce != datagram.nonce) return;
  if (datagram.kind == Kind::gone) return drop(arrival.peer);
  if (datagram.kind == Kind::done) begin(*flow);
}

/// Nothing of a hello is looked at before its cookie is good: no state, no work, and no more bytes back than
/// came.
void Port::take_hello(const Arrival& arrival, const HopDatagram& datagram) {
  if (arrival.bytes.size() < shortest_hello) return;
  const bool good = datagram.has_cookie() &&
                    cookies_->is_good(datagram.cookie, arrival.peer, datagram.nonce, datagram.frame, now());
  if (good) return greet(arrival, datagram);
  const auto cookie = cookies_->make(arrival.peer, datagram.nonce, datagram.frame, now());
  replies_.push_back({arrival.peer, arrival.local,
                      encode({.kind = Kind::cookie, .nonce = datagram.nonce, .cookie = cookie})});
}

/// A hello from somebody who receives what is sent to him.
void Port::greet(const Arrival& arrival, const HopDatagram& datagram) {
  const Outlet back{.socket = socket_.borrow(), .to = arrival.peer, .from = arrival.local};
  auto* flow = find(arrival.peer);
  if (flow != nullptr && flow->nonce == datagram.nonce) {
    if (flow->stage == Flow::Stage::answered) await_done(*flow);
    if (flow->stage == Flow::Stage::relayed) say(back, Kind::answer, flow->nonce, {}, ipc::hop_ok());
    return;
  }
  if (const auto* said = answers_.find({arrival.peer, datagram.nonce}, now())) {
    if (!said->empty()) say(back, Kind::answer, datagram.nonce, {}, *said);
    return;
  }
  if (flow != nullptr) {  // it began anew from the same port
    // The router's word is awaited, so that no place is kept there without us knowing: the hello comes again.
    if (flow->stage == Flow::Stage::asking) return;
    drop(arrival.peer);
  }
  auto hop = decode_hello(datagram.frame);
  const auto room = hop ? has_room(arrival.peer) : ipc::Result<>{std::unexpected(hop.error())};
  if (!room) return say(back, Kind::answer, datagram.nonce, {}, refusal_frame(room.error()));
  admit(arrival, datagram.nonce, std::move(*hop));
}

void Port::say(const Outlet& outlet, Kind kind, const Nonce& nonce, const Cookie& cookie,
               std::string_view frame) {
  const auto bytes = encode({.kind = kind, .nonce = nonce, .cookie = cookie, .frame = frame});
  const std::string_view one{bytes};
  send(outlet, {&one, 1});
}
}  // namespace udpd
