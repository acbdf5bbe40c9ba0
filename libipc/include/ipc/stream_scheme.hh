// Schemes over TCP: dialling and listening are done here, what a protocol does to a fresh connection (nothing
// for tcp, a handshake for tls) is plugged in between the connection and its hop.
#pragma once
#include <list>
#include <memory>
#include <variant>

#include "ipc/connect.hh"
#include "ipc/helper.hh"

namespace ipc {

/// A connection on which the hop can be spoken.
struct Established {
  std::unique_ptr<Stream> stream;
  Labels labels{};       ///< what the protocol learnt, beside scheme, peer and local address
  Milliseconds idle{0};  ///< what its settings say of a connection that carries nothing; 0: nothing
};

/// Work on one connection, under way. Destroying it cancels it (and closes the connection).
class Setup {
 public:
  virtual ~Setup() = default;
  /// False while it is we who keep the peer waiting.
  virtual bool waits_for_peer() const { return true; }
};
using OnEstablished = std::function<void(Result<Established>)>;
/// Either the outcome, at once, and the callback is never called; or work that will call it once.
using Progress = std::variant<Result<Established>, std::unique_ptr<Setup>>;

/// A socket to hand over and how its bytes travel.
struct Handover {
  Fd fd;
  std::string_view path;
  bool onward = false;  ///< a PlainEnd belongs to it: see DialAnswer
};

class Inbound;
class StreamListener;

/// As it stands this is plain TCP; protocols override what differs.
class StreamScheme : public Scheme {
 public:
  StreamScheme();
  ~StreamScheme() override;

  /// `socket` is connected and non-blocking. Deadlines are the caller's.
  virtual Progress after_connect(Helper& helper, Fd socket, const DialRequest& request, OnEstablished done);
  /// Made once per listener for `after_accept`: certificates, keys. Default: nothing.
  virtual Result<std::shared_ptr<void>> listener_context(Helper& helper, const ListenRequest& request);
  virtual Progress after_accept(Helper& helper, Fd socket, const std::shared_ptr<void>& context,
                                OnEstablished done);
  /// More work is queued than is soon done: newcomers wait in the kernel's queue for a moment.
  virtual bool is_overloaded() const { return false; }
  /// How a connection may be handed over.
  struct Terms {
    bool ktls;            ///< as a socket of that path
    Milliseconds idle;    ///< where it is relayed: how long it may carry nothing; 0: for ever
    bool onward = false;  ///< to another relay, which is to learn of a cut and to tell one
  };
  /// After the hop: what the client or service gets. Default: the socket itself, "direct".
  virtual Result<Handover> hand_over(Helper& helper, std::unique_ptr<Stream> stream, Terms terms);
  /// After the hop, where a helper carries the bytes between the peer and a socket of the service's own: the
  /// peer's side of it. Default: the stream as it is.
  virtual Result<std::unique_ptr<Stream>> carrier(Helper& helper, std::unique_ptr<Stream> stream);

  std::unique_ptr<Dial> dial(Helper& helper, DialRequest request) override;
  Result<std::unique_ptr<Listener>> listen(Helper& helper, ListenRequest request) override;

 private:
  friend class Inbound;
  friend class StreamListener;
  void admit(std::unique_ptr<Inbound> inbound, Fd socket);
  void make_room();
  void set_aside(Inbound& inbound);
  void take_back(Inbound& inbound);
  void drop(Inbound& inbound);
  void drop_all_of(const StreamListener& listener);
  /// Logs why a connection came to nothing; a flood of them shows up as a number.
  void tell_failed(Helper& helper, const Failure& failure);

  /// Accepted, not yet handed over or refused; the oldest first. Apart from them those whose question the
  /// router has not answered yet.
  std::list<std::unique_ptr<Inbound>> inbounds_, asking_;
  std::uint64_t failures_since_ = 0;  ///< loop time at which the current count began
  unsigned failures_ = 0;
};

}  // namespace ipc
