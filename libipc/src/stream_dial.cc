// One dial over TCP, from top to bottom: resolve, judge, connect, what the protocol does, hop, hand over.
#include "ipc/resolve.hh"
#include "ipc/stream_scheme.hh"
#include "stream_parts.hh"

namespace ipc {
namespace {

class StreamDial final : public Dial {
 public:
  StreamDial(StreamScheme& scheme, Helper& helper, DialRequest request)
      : scheme_{scheme}, helper_{helper}, request_{std::move(request)} {}

  void start() override {
    if (request_.fd) return on_established(Established{socket_stream(std::move(request_.fd))});
    auto addresses = std::move(request_.addresses);
    if (addresses.empty()) addresses = addresses_without_resolver(request_.uri);
    if (!addresses.empty()) return judge(std::move(addresses));
    wait("resolving " + request_.uri.host);
    resolution_ = Resolution{helper_.loop(), request_.uri.host,
                             [this](Result<std::vector<Address>> found) { on_resolved(std::move(found)); }};
  }

  void cancel() override { finish(fail(Word::timeout, "the dial of " + target() + " was cancelled")); }

 private:
  std::string target() const { return place(request_.uri.host, request_.uri.port_or_default()); }

  /// Arms the deadline, once; a dial that never waits needs none.
  void wait(std::string what) {
    doing_ = std::move(what);
    if (deadline_) return;
    deadline_ = Timer{helper_.loop(), request_.deadline,
                      [this] { finish(fail(Word::timeout, "the time was over while " + doing_)); }};
  }

  void on_resolved(Result<std::vector<Address>> found) {
    if (!found) return finish(std::unexpected(std::move(found).error()));
    judge(std::move(*found));
  }

  void judge(std::vector<Address> addresses) {
    if (!request_.judge) return connect(std::move(addresses));
    wait("the router judged the addresses of " + request_.uri.host);
    question_ =
        helper_.judge(request_, addresses, request_.deadline, [this](Result<std::vector<Address>> allowed) {
          if (!allowed) return finish(std::unexpected(std::move(allowed).error()));
          connect(std::move(*allowed));
        });
  }

  void connect(std::vector<Address> addresses) {
    Connector::Plan plan{std::move(addresses), request_.uri.port_or_default(), request_.source, target()};
    connector_ = std::make_unique<Connector>(helper_.loop(), std::move(plan));
    auto done =
        connector_->start([this](Result<Connected> connected) { on_connected(std::move(connected)); });
    if (done) return on_connected(std::move(*done));
    wait("connecting to " + target());
  }

  void on_connected(Result<Connected> connected) {
    if (!connected) return finish(std::unexpected(std::move(connected).error()));
    connector_.reset();
    const int raw = connected->socket.borrow();
    ends_ = {.peer = std::pair{connected->peer, request_.uri.port_or_default()}, .local = local_end(raw)};
    if (ends_.local == ends_.peer)  // TCP's simultaneous open with oneself: nobody listens there
      return finish(fail(Word::unreachable, "cannot connect to " + target() + ": it would be its own peer"));
    auto progress = scheme_.after_connect(
        helper_, std::move(connected->socket), request_,
        [this](Result<Established> established) { on_established(std::move(established)); });
    if (auto* done = std::get_if<0>(&progress)) return on_established(std::move(*done));
    setup_ = std::move(std::get<1>(progress));
    wait("the handshake with " + target() + " went on");
  }

  void on_established(Result<Established> established) {
    if (!established) return finish(std::unexpected(std::move(established).error()));
    stream_ = std::move(established->stream);
    labels_ = std::move(established->labels);
    idle_ = established->idle;
    if (!ends_.peer) ends_ = {.peer = peer_end(stream_->borrow()), .local = local_end(stream_->borrow())};
    if (!request_.hop) return hand_over();
    const auto frame = encode_hop(*request_.hop);
    if (!frame) return finish(std::unexpected(frame.error()));
    unsent_ = *frame;
    wait("waiting for the word of " + target());
    hop_timer_ = Timer{helper_.loop(), request_.hop_timeout,
                       [this] { finish(fail(Word::timeout, target() + " did not answer the hop in time")); }};
    send_hop();
  }

  void send_hop() {
    while (!unsent_.empty()) {
      const auto put = stream_->write(unsent_);
      if (put.io == Io::closed)
        return finish(std::unexpected(about_target("closed the connection before the hop")));
      if (put.io == Io::again) break;
      unsent_.erase(0, put.size);
    }
    watch();
    // On a plain socket readiness tells; a protocol may have read ahead.
    if (unsent_.empty() && stream_->holds_more()) read_answer();
  }

  void watch() {
    const int events = stream_->events(unsent_.empty(), !unsent_.empty());
    if (poll_) return poll_.change(events);
    poll_ = Poll{helper_.loop(), stream_->borrow(), events,
                 [this](int) { return unsent_.empty() ? read_answer() : send_hop(); }};
  }

  void read_answer() {
    const auto io = answer_.read(*stream_);
    if (!io)
      return finish(
          std::unexpected(about_target("did not answer the hop as a router does: " + io.error().text)));
    if (*io == Io::again) return watch();
    const auto accepted = decode_hop_answer(answer_.frame(), request_.uri.host);
    if (!accepted) return finish(std::unexpected(accepted.error()));
    poll_.stop();
    hand_over();
  }

  /// What the protocol knows of the end is nearer to the cause.
  Error about_target(const std::string& what) const {
    if (auto fault = stream_->fault(); fault && fault->word == Word::auth) return std::move(*fault);
    return {.word = Word::unreachable, .text = target() + " " + what};
  }

  void hand_over() {
    auto handover = scheme_.hand_over(helper_, std::move(stream_),
                                      {.ktls = request_.ktls, .idle = idle_, .onward = request_.onward});
    if (!handover) return finish(std::unexpected(std::move(handover).error()));
    finish(DialAnswer{std::move(handover->fd), handover->path,
                      labels_text(request_.uri.scheme, ends_, labels_), handover->onward});
  }

  /// Destroys this object.
  void finish(Result<DialAnswer> answer) { helper_.finish_dial(request_, std::move(answer)); }

  static constexpr std::size_t shortest_answer = 8;

  StreamScheme& scheme_;
  Helper& helper_;
  DialRequest request_;
  Endpoints ends_;
  Resolution resolution_;
  Question question_;
  std::unique_ptr<Connector> connector_;
  std::unique_ptr<Setup> setup_;
  std::unique_ptr<Stream> stream_;
  Labels labels_;
  Milliseconds idle_{0};
  std::string unsent_;
  HopReader answer_{shortest_answer};
  std::string doing_;
  Timer deadline_;
  Timer hop_timer_;
  Poll poll_;
};
}  // namespace

std::unique_ptr<Dial> StreamScheme::dial(Helper& helper, DialRequest request) {
  return std::make_unique<StreamDial>(*this, helper, std::move(request));
}

Progress StreamScheme::after_connect(Helper&, Fd socket, const DialRequest&, OnEstablished) {
  return Established{socket_stream(std::move(socket))};
}

Result<std::unique_ptr<Stream>> StreamScheme::carrier(Helper&, std::unique_ptr<Stream> stream) {
  return stream;
}

Result<Handover> StreamScheme::hand_over(Helper&, std::unique_ptr<Stream> stream, Terms) {
  auto socket = std::move(static_cast<SocketStream&>(*stream)).take();
  prepare_for_handover(socket.borrow());
  return Handover{std::move(socket), "direct"};
}
}  // namespace ipc
