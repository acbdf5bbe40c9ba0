// One dial over UDP, from top to bottom: resolve, judge, connect, hop, hand over.
#include <algorithm>
#include <vector>

#include "ipc/connect.hh"
#include "ipc/resolve.hh"
#include "udpd/exchange.hh"
#include "udpd/labels.hh"
#include "udpd/scheme.hh"
#include "udpd/settings.hh"

namespace udpd {
namespace {
constexpr ipc::Milliseconds stagger{250};  // as between TCP connection attempts: RFC 8305

class UdpDial final : public ipc::Dial {
 public:
  UdpDial(ipc::Helper& helper, ipc::DialRequest request)
      : helper_{helper}, request_{std::move(request)}, options_{socket_options(request_.settings)} {
    options_.source = request_.source;
  }

  void start() override {
    if (request_.fd) return over_given_socket();
    auto addresses = std::move(request_.addresses);
    if (addresses.empty()) addresses = ipc::addresses_without_resolver(request_.uri);
    if (!addresses.empty()) return judge(std::move(addresses));
    wait("resolving " + request_.uri.host);
    resolution_ = ipc::Resolution{helper_.loop(), request_.uri.host,
                                  [this](ipc::Result<std::vector<ipc::Address>> found) {
                                    if (!found) return finish(std::unexpected(std::move(found).error()));
                                    judge(std::move(*found));
                                  }};
  }

  void cancel() override {
    finish(ipc::fail(ipc::Word::timeout, "the dial of " + target() + " was cancelled"));
  }

 private:
  using Outcome = ipc::Result<ipc::DialAnswer>;

  std::string target() const { return place(request_.uri.host, request_.uri.port_or_default()); }

  /// Arms the deadline, once; a dial that never waits needs none.
  void wait(std::string what) {
    doing_ = std::move(what);
    if (deadline_) return;
    deadline_ = ipc::Timer{helper_.loop(), request_.deadline, [this] {
                             finish(ipc::fail(ipc::Word::timeout, "the time was over while " + doing_));
                           }};
  }

  void judge(std::vector<ipc::Address> addresses) {
    if (!request_.judge) return connect(addresses);
    wait("the router judged the addresses of " + request_.uri.host);
    question_ = helper_.judge(request_, addresses, request_.deadline,
                              [this](ipc::Result<std::vector<ipc::Address>> allowed) {
                                if (!allowed) return finish(std::unexpected(std::move(allowed).error()));
                                connect(*allowed);
                              });
  }

  void connect(const std::vector<ipc::Address>& addresses) {
    for (const auto& address : ipc::interleaved(addresses))
      peers_.push_back({address, request_.uri.port_or_default()});
    if (!request_.hop) return connect_raw();
    begin_hop();
  }

  /// UDP connects without a word to anybody: only the kernel's own no leads to the next address.
  void connect_raw() {
    for (const auto& peer : peers_) {
      auto socket = dial_socket(peer, options_);
      if (socket) return hand_over(std::move(*socket), peer);
      note(std::move(socket).error());
    }
    finish(std::unexpected(failure_));
  }

  void over_given_socket() {
    const auto peer = peer_end(request_.fd.borrow());
    if (!peer) return finish(ipc::fail(ipc::Word::bad_request, "the descriptor is no connected UDP socket"));
    if (!request_.hop) return hand_over(std::move(request_.fd), *peer);
    peers_.push_back(*peer);
    begin_hop();
  }

  void begin_hop() {
    auto frame = hello_frame(*request_.hop);
    if (!frame) return finish(std::unexpected(std::move(frame).error()));
    frame_ = std::move(*frame);
    wait("waiting for the word of " + target());
    hop_timer_ = ipc::Timer{
        helper_.loop(), request_.hop_timeout,
        [this] { finish(ipc::fail(ipc::Word::timeout, target() + " did not answer the hop in time")); }};
    // In a turn of its own, for exchanges that fail before they began.
    stagger_ = ipc::Timer{helper_.loop(), ipc::Milliseconds{0}, [this] { try_next(); }};
  }

  void try_next() {
    stagger_.stop();
    if (next_ == peers_.size()) return;
    const auto peer = peers_[next_++];
    if (next_ < peers_.size()) stagger_ = ipc::Timer{helper_.loop(), stagger, [this] { try_next(); }};
    Exchange::Plan plan{.peer = peer,
                        .options = options_,
                        .frame = frame_,
                        .host = request_.uri.host,
                        .socket = std::move(request_.fd)};
    Exchange::Handlers handlers{
        .on_alive = [this](Exchange& alive) { keep_only(alive); },
        .on_end = [this, peer](Exchange& ended,
                               ipc::Result<> outcome) { on_end(ended, peer, std::move(outcome)); }};
    exchanges_.push_back(std::make_unique<Exchange>(helper_.loop(), std::move(plan), std::move(handlers)));
    exchanges_.back()->start();
  }

  void keep_only(const Exchange& alive) {
    next_ = peers_.size();
    stagger_.stop();
    std::erase_if(exchanges_, [&](const auto& exchange) { return exchange.get() != &alive; });
  }

  void on_end(Exchange& ended, const Peer& peer, ipc::Result<> outcome) {
    if (outcome) return hand_over(std::move(ended).take(), peer);
    const bool is_final = outcome.error().far;
    note(std::move(outcome).error());
    std::erase_if(exchanges_, [&](const auto& exchange) { return exchange.get() == &ended; });
    if (is_final || (exchanges_.empty() && next_ == peers_.size())) return finish(std::unexpected(failure_));
    if (next_ < peers_.size()) try_next();
  }

  /// The first address's failure is what people want to hear of.
  void note(ipc::Error failure) {
    if (!std::exchange(has_failed_, true) || failure.far) failure_ = std::move(failure);
  }

  void hand_over(ipc::Fd socket, const Peer& peer) {
    if (auto blocking = ipc::set_blocking(socket.borrow(), true); !blocking)
      return finish(std::unexpected(std::move(blocking).error()));
    const auto local = local_end(socket.borrow());
    finish(ipc::DialAnswer{std::move(socket), "direct", labels_text(peer, local)});
  }

  /// Destroys this object.
  void finish(Outcome answer) { helper_.finish_dial(request_, std::move(answer)); }

  ipc::Helper& helper_;
  ipc::DialRequest request_;
  SocketOptions options_;
  ipc::Resolution resolution_;
  ipc::Question question_;
  std::vector<Peer> peers_;
  std::size_t next_ = 0;
  std::string frame_;
  std::vector<std::unique_ptr<Exchange>> exchanges_;
  ipc::Error failure_{};
  bool has_failed_ = false;
  std::string doing_;
  ipc::Timer deadline_;
  ipc::Timer hop_timer_;
  ipc::Timer stagger_;
};
}  // namespace

std::unique_ptr<ipc::Dial> Udp::dial(ipc::Helper& helper, ipc::DialRequest request) {
  return std::make_unique<UdpDial>(helper, std::move(request));
}
}  // namespace udpd
