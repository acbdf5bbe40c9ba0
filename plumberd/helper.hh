// One helper process: started, watched, started again with back-off, and spoken to (docs/protocol.md, section
// 4).
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ipc/address.hh"
#include "ipc/channel.hh"
#include "plumberd/config.hh"
#include "plumberd/log.hh"

namespace plumberd {

/// What a helper is asked to connect.
struct DialOrder {
  std::string uri{};                     ///< with its secret: the helper needs it
  std::optional<std::string> service{};  ///< make the hop for it; empty: connect only
  unsigned hops = 1;
  std::string framing = "bytes";
  ipc::Labels claims{};
  std::vector<std::string> addresses{};  ///< judged already; empty: the helper resolves
  bool judge = false;
  ipc::Milliseconds deadline{10'000};
  std::string settings{};  ///< JSON object text
  ipc::Fd connected{};     ///< a warm socket: make only the hop
  bool ktls = false;       ///< the client may be given a socket of path "ktls"
  bool onward = false;     ///< the socket is for another helper's relay, which is to learn of a cut
  /// Judges resolved addresses: those that may be dialled.
  std::function<std::vector<std::string>(const std::vector<std::string>&)> on_judge{};
};

/// What the kernel says of a descriptor that a helper handed in.
struct PeerSocket {
  int type = 0;                                                  ///< SOCK_STREAM, ...
  std::optional<std::pair<ipc::Address, std::uint16_t>> peer{};  ///< empty: a UNIX socket
};

struct Dialled {
  ipc::Fd fd;
  PeerSocket socket;
  std::string path;
  ipc::Labels labels;
  bool onward = false;  ///< a socket that tells another helper's relay of a cut, and has to be told
};

/// An inbound connection that a helper accepted and asks about.
struct Inbound {
  std::uint64_t listen = 0;
  std::string service{};
  ipc::Labels labels{};
  unsigned hops = 0;
  std::string framing = "bytes";
  ipc::Labels claims{};
  std::size_t relays = 0;  ///< to this service that the helper carries already, as it says
  bool onward = false;     ///< it can relay to what a dial of that kind came to
};

/// Bytes that a helper carried between two sockets.
struct Relayed {
  std::uint64_t received = 0;  ///< from the network
  std::uint64_t sent = 0;      ///< to it
};

/// The socket of an inbound connection that was admitted.
struct Delivery {
  std::string token{};
  ipc::Fd fd{};
  PeerSocket socket{};
  std::string path{};   ///< "direct", "relay", ...
  std::string first{};  ///< JSON array of base64 datagrams that came before the socket; may be empty
};

class Helper {
 public:
  using OnDialled = std::function<void(ipc::Result<Dialled>)>;
  /// Whether other workers listen on the same port.
  enum class Share : std::uint8_t {
    no,
    first,  ///< others will; nobody else may have it yet
    join,   ///< others do
  };
  struct Listened {
    std::string uri;         ///< with the actual port
    bool is_shared = false;  ///< other workers can listen there, too
  };
  using OnListening = std::function<void(ipc::Result<Listened>)>;
  /// The answer to `accepted`: JSON text of the result with at most one descriptor.
  struct Admission {
    std::string result;
    ipc::Fd fd;
  };
  struct Hooks {
    std::function<void(Inbound, std::function<void(ipc::Result<Admission>)>)> on_accepted;
    /// An inbound connection came to nothing before it was asked about.
    std::function<void(Inbound, ipc::Error)> on_failed;
    std::function<void(Delivery)> on_deliver;
    /// What was admitted with this token will not be delivered.
    std::function<void(const std::string& token)> on_void;
    /// More bytes were relayed by the helper `name`.
    std::function<void(const std::string& name, Relayed more)> on_relayed;
  };

  Helper(ipc::Loop& loop, Log& log, HelperSpec spec, Hooks hooks);
  ~Helper();
  Helper(const Helper&) = delete;

  /// Calls back exactly once unless cancelled. Starts the process if it does not run.
  std::uint64_t dial(DialOrder order, OnDialled done);
  void cancel(std::uint64_t dial);
  /// Calls back once; after a crash it is listened again, on the same port, without being asked.
  void listen(std::uint64_t id, const Listen& listen, std::string settings, Share share, OnListening done);
  void unlisten(std::uint64_t id);
  void relay(ipc::Fd a, ipc::Fd b, std::string_view framing);
  void configure(std::string settings, std::uint64_t generation);
  /// Nothing more is told about processes that still run; for the end of the router.
  static void forget_processes(ipc::Loop& loop);
  /// Ends the channel: the process finishes its relays and exits by itself.
  void release();

  const HelperSpec& spec() const { return spec_; }
  std::string_view state() const;
  pid_t pid() const { return pid_; }
  unsigned restarts() const { return restarts_; }
  std::size_t dialling() const { return dials_.size(); }

 private:
  enum class State : std::uint8_t { idle, starting, ready, resting };
  struct Dial {
    DialOrder order;
    OnDialled done;
    std::uint64_t call = 0;     ///< 0: waits for the helper to become ready
    std::uint64_t ends_at = 0;  ///< loop time
    ipc::Timer waiting{};       ///< until then
  };
  struct Listening {
    Listen listen;
    std::string settings;
    Share share = Share::no;
    OnListening done;
    std::string actual{};
    ipc::Timer retry{};
  };
  struct Process;
  bool is_ready() const;
  void start_soon();
  void start();
  ipc::Result<> spawn(ipc::Fd end);
  static void on_exit(uv_process_t* handle, std::int64_t status, int signal);
  void rest(const std::string& why);
  void lost(const std::string& why);
  void fail_all(const ipc::Error& reason, bool for_good);
  std::vector<OnListening> take_listeners(bool all);
  void wait_for_start(std::uint64_t id, Dial& dial);
  void on_hello(const ipc::rpc::Message& message);
  void on_request(ipc::Channel::Incoming incoming);
  void on_notification(ipc::Channel::Incoming incoming);
  bool may_say();
  void say(ipc::JsonView params);
  void tell_failed(ipc::JsonView params);
  void count_relayed(ipc::JsonView params);
  void judge(const ipc::Channel::Incoming& incoming);
  void admit(ipc::Channel::Incoming incoming);
  void send_configuration();
  void send_dial(std::uint64_t id, Dial& dial);
  void finish_dial(std::uint64_t id, ipc::Result<ipc::Channel::Incoming> answer);
  void send_listen(std::uint64_t id, Listening& listening);
  void listen_again(std::uint64_t id);

  ipc::Loop& loop_;
  Log& log_;
  HelperSpec spec_;
  Hooks hooks_;
  State state_ = State::idle;
  std::unique_ptr<ipc::Channel> channel_;
  Process* process_ = nullptr;  ///< libuv's; freed by its close callback
  pid_t pid_ = 0;
  std::string last_loss_;  ///< why it was lost or could not be started
  ipc::Timer timer_;       ///< hello's deadline, or the end of the rest
  ipc::Milliseconds back_off_;
  std::uint64_t started_ = 0;
  unsigned restarts_ = 0;
  std::uint64_t log_second_ = 0;
  unsigned log_lines_ = 0;
  Relayed relayed_;  ///< as this process said last
  std::string settings_ = "{}";
  std::uint64_t generation_ = 0;
  std::uint64_t next_dial_ = 1;
  std::map<std::uint64_t, Dial> dials_;
  std::map<std::uint64_t, Listening> listens_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// The program of a helper of ours: beside the running binary, else in PREFIX/libexec/plumberd.
std::string find_program(const std::string& name);
/// BAD_REQUEST for what is no connected stream, datagram or seqpacket socket, INET or UNIX; UNREACHABLE for
/// one that was, until its peer reset it.
ipc::Result<PeerSocket> inspect_socket(int fd);
/// Takes off SO_RCVTIMEO and SO_SNDTIMEO, which a helper may have used for itself and which would make its
/// new owner's calls fail (socket(7)).
void forget_timeouts(int fd);
/// What is promised for tcp, tls, dtls and udp only (other helpers may lead through a proxy): a socket of the
/// scheme's type which, if it is an internet socket, leads to one of `addresses`, at `port` (0: any). A UNIX
/// socket is the near end of the helper's own relay.
ipc::Result<> check_peer(std::string_view scheme, const PeerSocket& socket,
                         std::span<const std::string> addresses, std::uint16_t port);

}  // namespace plumberd
