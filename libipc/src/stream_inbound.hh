// Listening over TCP and what happens to each connection that comes in. Private to libipc.
#pragma once
#include <list>
#include <vector>

#include "ipc/stream_scheme.hh"
#include "stream_parts.hh"

namespace ipc {

class StreamListener final : public Listener {
 public:
  StreamListener(StreamScheme& scheme, Helper& helper, ListenRequest request);
  StreamListener(const StreamListener&) = delete;
  ~StreamListener() override;
  /// Binds every address of the URI to one port.
  Result<> open();
  std::string uri() const override;
  bool is_shared() const override { return request_.share != Share::no; }
  const ListenRequest& request() const { return request_; }
  const std::shared_ptr<void>& context() const { return context_; }

 private:
  struct Socket {
    Fd fd;
    Address address;
    Poll poll{};
  };
  Result<> bind_one(const Address& address);
  void on_ready(std::size_t index);
  bool accept_one(const Socket& from);
  void set_backlog(int most);
  void pause_for_lack(int code);
  void pause(Milliseconds how_long);
  void resume();
  std::optional<std::pair<Address, std::uint16_t>> local_of(const Socket& from, int socket) const;

  StreamScheme& scheme_;
  Helper& helper_;
  ListenRequest request_;
  std::shared_ptr<void> context_;
  std::vector<Socket> sockets_;
  std::uint16_t port_ = 0;
  int backlog_;
  Timer paused_;
  bool was_told_ = false;  ///< of the lack of descriptors: once each time it begins
};

/// One accepted connection until it is handed over, relayed or refused.
class Inbound {
 public:
  Inbound(StreamScheme& scheme, Helper& helper, const StreamListener& listener, Endpoints ends);
  Inbound(const Inbound&) = delete;
  /// May end with `drop`: the caller must not touch this object afterwards.
  void begin(Fd socket);
  bool is_of(const StreamListener& listener) const { return &listener == &listener_; }
  bool waits_for_router() const { return stage_ == Stage::asking; }
  /// It waits for its peer and not for us: it may have to make room for a newcomer.
  bool waits_for_peer() const {
    return stage_ == Stage::setting_up ? !setup_ || setup_->waits_for_peer() : !waits_for_router();
  }

  std::list<std::unique_ptr<Inbound>>::iterator place{};  ///< in one of the scheme's lists

 private:
  enum class Stage : std::uint8_t { setting_up, reading, asking, leaving };
  void on_established(Result<Established> established);
  void await_peer();
  void fail(Error failure);
  void read_hop();
  void ask(Hop hop);
  void on_admitted(Result<Admission> admission);
  void hand_over(Admission admission);
  void refuse(const Error& failure);
  void leave();
  void throw_away();
  void watch(Poll::Callback ready);
  void drop();

  StreamScheme& scheme_;
  Helper& helper_;
  const StreamListener& listener_;
  Endpoints ends_;
  Labels labels_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Setup> setup_;
  HopReader reader_;
  Framing framing_ = Framing::bytes;
  Question question_;
  Poll poll_;
  Timer deadline_;
  Stage stage_ = Stage::setting_up;
  Milliseconds idle_{0};  ///< how long a relay of it may carry nothing
};

}  // namespace ipc
