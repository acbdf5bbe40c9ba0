// One listening socket, and the flows on it until they are handed over or end.
#pragma once
#include <memory>
#include <unordered_map>

#include "ipc/helper.hh"
#include "udpd/census.hh"
#include "udpd/cookie.hh"
#include "udpd/memory.hh"
#include "udpd/relayed_flow.hh"
#include "udpd/settings.hh"

namespace udpd {

class Udp;

class Port {
 public:
  Port(Udp& scheme, ipc::Helper& helper, const ipc::ListenRequest& request);
  Port(const Port&) = delete;
  /// Closes the socket; relayed flows go on over sockets of their own.
  ~Port();
  /// Binds; `at.port` 0 becomes the actual one.
  ipc::Result<> open(Peer& at);

 private:
  /// What becomes of one peer until its socket is somebody else's.
  struct Flow {
    enum class Stage : std::uint8_t {
      asking,    ///< the router
      answered,  ///< OK was said: for `done`, or the peer's first datagram
      draining,  ///< it has its socket; what came before lies behind other datagrams of the listener's
      relayed
    };
    Stage stage = Stage::asking;
    Peer peer{};
    std::optional<ipc::Address> local{};
    Nonce nonce{};
    ipc::Hop hop{};
    ipc::Question question{};
    ipc::Admission admission{};
    ipc::Timer linger{};
    std::vector<std::string> early{};  ///< datagrams that came before the socket, in order
    std::size_t early_bytes = 0;
    ipc::Fd socket{};
    std::uint64_t drained_at = 0;  ///< when so many datagrams were read, all earlier ones were
    std::unique_ptr<RelayedFlow> relay{};
  };
  /// What one network has of `flows_`.
  struct Share {
    std::size_t flows = 0;
    std::size_t pending = 0;  ///< asking or answered: the router may keep a place for them
  };
  struct HopKey {
    Peer peer{};
    Nonce nonce{};
    bool operator==(const HopKey&) const = default;
  };
  struct HopKeyHash {
    std::size_t operator()(const HopKey& key) const;
  };

  /// Our end of a flow whose datagrams go to `local`, where the socket told it.
  Peer end_towards(const Peer& peer, const std::optional<ipc::Address>& local) const;
  bool is_raw() const { return !request_.service.empty(); }
  std::uint64_t now() const { return helper_.loop().now(); }
  Flow* find(const Peer& peer);
  void on_ready();
  void watch_draining();
  void take(std::span<const Arrival> arrivals);
  std::size_t push_run(Flow& flow, std::span<const Arrival> arrivals);
  void take_one(const Arrival& arrival);
  void take_raw(const Arrival& arrival);
  bool is_self(const Arrival& arrival) const;
  void take_hop(const Arrival& arrival, const HopDatagram& datagram);
  void take_hello(const Arrival& arrival, const HopDatagram& datagram);
  void take_known(Flow& flow, const Arrival& arrival);
  void greet(const Arrival& arrival, const HopDatagram& datagram);
  void admit(const Arrival& arrival, const Nonce& nonce, ipc::Hop hop);
  ipc::Result<> has_room(const Peer& peer);
  void count(const Flow& flow, int change);
  void enter(Flow& flow, Flow::Stage stage);
  void on_admitted(const Peer& peer, ipc::Result<ipc::Admission> admission);
  void refuse(const Peer& peer, const ipc::Error& why);
  void await_done(Flow& flow);
  void begin(Flow& flow);
  void begin_direct(Flow& flow);
  void begin_relay(Flow& flow);
  ipc::Result<> relay(Flow& flow);
  void keep_early(Flow& flow, std::string_view bytes);
  void deliver(Flow& flow);
  void deliver_drained(bool all);
  std::size_t queued_at_most() const;
  void drop(const Peer& peer);
  Outlet outlet_of(const Flow& flow) const;
  void say(const Outlet& outlet, Kind kind, const Nonce& nonce, const Cookie& cookie, std::string_view frame);
  void hand_on_relays();

  Udp& scheme_;
  ipc::Helper& helper_;
  const ipc::ListenRequest& request_;
  Limits limits_;
  SocketOptions options_;
  Peer at_{};
  ipc::Fd socket_;
  std::optional<CookieJar> cookies_;
  std::optional<Census> census_;
  std::unordered_map<Peer, std::unique_ptr<Flow>, PeerHash> flows_;
  std::unordered_map<ipc::Address, Share, PeerHash> by_prefix_;
  Memory<HopKey, std::string, HopKeyHash> answers_;
  std::vector<Letter> replies_;  ///< to hellos without a cookie: they leave together, as floods come
  /// Raw peers that were refused (true) or whose socket was just handed over (false).
  Memory<Peer, bool, PeerHash> recent_;
  std::uint64_t read_ = 0;  ///< datagrams
  bool is_taking_ = false;  ///< those that were read last; more of any flow's may be among them
  std::size_t pending_ = 0;
  std::vector<Peer> draining_;
  ipc::Timer draining_watch_;
  ipc::Poll poll_;
};

}  // namespace udpd
