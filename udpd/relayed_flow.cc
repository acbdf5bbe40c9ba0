#include "udpd/relayed_flow.hh"

#include <algorithm>
#include <cerrno>

namespace udpd {
namespace {
/// What one read of an unframed stream becomes: a datagram that every path carries whole.
constexpr std::size_t stream_part = 1200;
constexpr std::size_t largest_payload = 65'507;
constexpr int rounds_per_turn = 4;

std::uint64_t size_of(std::span<const std::string_view> datagrams) {
  std::uint64_t sum = 0;
  for (const auto datagram : datagrams) sum += datagram.size();
  return sum;
}

bool is_one_frame(ipc::Framing framing, std::string_view bytes) {
  const auto header = ipc::decode_header(framing, bytes);
  return header && header->length == bytes.size() - ipc::header_size(framing);
}
}  // namespace

ipc::Result<std::unique_ptr<RelayedFlow>> RelayedFlow::open(ipc::Helper& helper, ipc::Fd service,
                                                            ipc::Framing framing, ipc::Milliseconds idle) {
  const int type = ipc::type_of(service.borrow());
  bool counted = false;
  if (type == SOCK_STREAM && framing != ipc::Framing::bytes) {
    // Programs of this framing want each message in a read of its own: the stream relay knows how.
    auto pair = TRY(ipc::socket_pair(SOCK_STREAM));
    helper.relay(ipc::socket_stream(std::move(pair.second)), ipc::socket_stream(std::move(service)),
                 {.framing = framing});
    service = std::move(pair.first);
    counted = true;
  }
  TRY(ipc::set_blocking(service.borrow(), false));
  if (type == SOCK_STREAM) ipc::take_urgent_inline(service.borrow());
  std::unique_ptr<RelayedFlow> flow{new RelayedFlow{helper, std::move(service), type, framing, idle}};
  if (!counted) flow->carried_ = &helper.carried();
  return flow;
}

RelayedFlow::RelayedFlow(ipc::Helper& helper, ipc::Fd service, int type, ipc::Framing framing,
                         ipc::Milliseconds idle)
    : helper_{helper}, service_{std::move(service)}, type_{type}, framing_{framing}, idle_{idle} {
  if (framing != ipc::Framing::bytes) reader_ = ipc::FrameReader{framing, largest_payload};
}

void RelayedFlow::start(Outlet outlet, OnEnd on_end) {
  outlet_ = outlet;
  on_end_ = std::move(on_end);
  active_at_ = helper_.loop().now();
  poll_.stop();  // a descriptor is watched once
  poll_ = ipc::Poll{helper_.loop(), service_.borrow(), wanted(), [this](int events) { on_service(events); }};
  watch_idle(idle_);
}

void RelayedFlow::watch_idle(ipc::Milliseconds delay) {
  timer_ = ipc::Timer{helper_.loop(), delay, [this] {
                        const auto idle_for = ipc::Milliseconds{helper_.loop().now() - active_at_};
                        if (idle_for >= idle_) return end();
                        watch_idle(idle_ - idle_for);
                      }};
}

bool RelayedFlow::push(std::span<const std::string_view> datagrams) {
  active_at_ = helper_.loop().now();
  if (carried_ != nullptr) carried_->add_received(size_of(datagrams));
  if (type_ != SOCK_STREAM) return send(service_.borrow(), datagrams);
  return std::ranges::all_of(datagrams, [this](std::string_view bytes) { return push_stream(bytes); });
}

/// A stream that does not read loses datagrams, whole ones.
bool RelayedFlow::push_stream(std::string_view bytes) {
  const bool fits = framing_ == ipc::Framing::bytes || is_one_frame(framing_, bytes);
  if (!fits || bytes.empty() || !unsent_.empty()) return true;
  unsent_ = bytes;
  return flush();
}

bool RelayedFlow::flush() {
  const auto sent = ::send(service_.borrow(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return false;
  if (sent > 0) unsent_.erase(0, static_cast<std::size_t>(sent));
  poll_.change(wanted());
  return true;
}

int RelayedFlow::wanted() const { return unsent_.empty() ? UV_READABLE : UV_READABLE | UV_WRITABLE; }

void RelayedFlow::on_service(int events) {
  if ((events & UV_WRITABLE) != 0 && !unsent_.empty() && !flush()) return end();
  if ((events & UV_READABLE) == 0) return;
  active_at_ = helper_.loop().now();
  if (type_ == SOCK_STREAM) return read_stream();
  read_datagrams();
}

void RelayedFlow::forward(std::span<const std::string_view> datagrams) {
  if (carried_ != nullptr) carried_->add_sent(size_of(datagrams));
  if (send(outlet_, datagrams) > 0 && !std::exchange(has_warned_, true)) warn();
}

/// The service was told that its datagram is sent.
void RelayedFlow::warn() const {
  const auto peer = outlet_.to ? outlet_.to : peer_end(outlet_.socket);
  helper_.log("warn", "udp flow with " + (peer ? place(*peer) : "a peer that is gone") +
                          ": a datagram is larger than the path carries and was lost, and later ones will be "
                          "without a word; fragment = true lets them be cut up");
}

void RelayedFlow::read_datagrams() {
  for (int round = 0; round < rounds_per_turn; ++round) {
    const auto batch = receive(service_.borrow());
    if (batch.code != 0 && is_unix_) return end();  // else it is ICMP's, of one datagram
    if (batch.code != 0) return;
    std::array<std::string_view, batch_size> views;
    std::size_t count = 0;
    bool ended = false;
    for (const auto& arrival : batch.arrivals) {
      // Where a connection has an end, nothing stands for it.
      if (type_ == SOCK_SEQPACKET && arrival.bytes.empty()) ended = true;
      if (ended) break;
      views[count++] = arrival.bytes;
    }
    forward(std::span{views}.first(count));
    if (ended) return end();
    if (count < batch_size) return;
  }
}

void RelayedFlow::read_stream() {
  std::array<char, 16'384> part;
  const auto wanted = framing_ == ipc::Framing::bytes ? stream_part : part.size();
  const auto size = ipc::receive_bytes(service_.borrow(), std::span{part}.first(wanted));
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) return end();
  const std::string_view bytes{part.data(), static_cast<std::size_t>(size)};
  if (framing_ == ipc::Framing::bytes) return forward({&bytes, 1});
  reader_.feed(bytes);
  if (!forward_frames()) end();
}

bool RelayedFlow::forward_frames() {
  for (;;) {
    const auto frame = reader_.next();
    if (!frame) return false;
    if (!*frame) return true;
    forward({&(*frame)->whole, 1});
  }
}

void RelayedFlow::own(ipc::Fd socket, OnEnd on_end) {
  own_ = std::move(socket);
  start({.socket = own_.borrow()}, std::move(on_end));
  own_poll_ = ipc::Poll{helper_.loop(), own_.borrow(), UV_READABLE, [this](int) { on_peer(); }};
}

/// ICMP errors are not the end: the next datagram may find somebody again, and idleness ends the rest.
void RelayedFlow::on_peer() {
  for (int round = 0; round < rounds_per_turn; ++round) {
    const auto batch = receive(own_.borrow());
    std::array<std::string_view, batch_size> views;
    std::ranges::transform(batch.arrivals, views.begin(), &Arrival::bytes);
    if (!batch.arrivals.empty() && !push(std::span{views}.first(batch.arrivals.size()))) return end();
    if (batch.arrivals.size() < batch_size) return;
  }
}

/// May destroy this object.
void RelayedFlow::end() {
  poll_.stop();
  own_poll_.stop();
  timer_.stop();
  const auto tell = std::move(on_end_);
  if (tell) tell();
}
}  // namespace udpd
