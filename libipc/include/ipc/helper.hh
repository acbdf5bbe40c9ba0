// What every helper shares (docs/protocol.md, "The helper channel"): its channel to the router, requests and
// their answers, relays, the end. A helper is a Scheme; schemes over streams derive from StreamScheme
// (ipc/stream_scheme.hh).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ipc/channel.hh"
#include "ipc/hop.hh"
#include "ipc/relay.hh"
#include "ipc/uri.hh"

namespace ipc {

/// `dial`, taken apart and checked.
struct DialRequest {
  Channel::Incoming incoming;  ///< what the views point into; its id is where the answer goes
  std::string id{};            ///< JSON text: names the dial in `cancel` and `judge`
  Uri uri{};
  std::optional<Hop> hop{};          ///< to make; absent: connect only
  std::vector<Address> addresses{};  ///< dial these and resolve nothing
  bool judge = false;                ///< ask the router before connecting
  Milliseconds deadline{0};
  Milliseconds hop_timeout{0};
  std::optional<Address> source{};
  JsonView settings{};
  Fd fd{};              ///< connected already: only the hop is to be made
  bool ktls = false;    ///< the client may be given a socket of path "ktls"
  bool onward = false;  ///< the socket is for another relay and not for a client
};
/// BAD_REQUEST says what is wrong. `incoming` is left as it was then, to be refused.
Result<DialRequest> parse_dial(Channel::Incoming& incoming);

/// What a dial came to.
struct DialAnswer {
  Fd fd;                    ///< blocking, with its options set
  std::string_view path{};  ///< "direct", "ktls", "ktls-relay", "relay"; of static storage
  std::string labels{};     ///< JSON text of an object
  bool onward = false;      ///< a UNIX socket for a PlainEnd whose peer is one, too (Peer::relay)
};

/// Whether other workers of the same helper listen on the same port (SO_REUSEPORT: the kernel spreads
/// connections).
enum class Share : std::uint8_t {
  no,
  first,  ///< others will; TAKEN if somebody has the port already
  join,   ///< others do
};

/// `listen`, taken apart and checked.
struct ListenRequest {
  Channel::Incoming incoming;
  std::string id{};
  Uri uri{};
  std::string service{};  ///< raw: every connection is for it; empty: the hop names it
  Milliseconds hop_timeout{0};
  Milliseconds relay_idle{0};
  Share share = Share::no;
  JsonView settings{};
};
Result<ListenRequest> parse_listen(Channel::Incoming& incoming);

/// `failed`: an inbound connection that did not get as far as a question.
struct Failure {
  std::string listen{};  ///< JSON text of the listen's id
  std::string labels{};  ///< JSON text of an object
  Error error{};
};

/// `accepted`: the question about one inbound connection, and the router's answer.
struct Arrival {
  std::string listen{};  ///< JSON text of the listen's id
  Hop hop{};
  std::string labels{};  ///< JSON text of an object
  bool onward = false;   ///< what a dial of that kind came to can be relayed to
};
struct Admission {
  std::string token{};  ///< JSON text
  bool relays = false;
  Fd service{};                     ///< when it relays: the service's socket
  std::shared_ptr<void> counted{};  ///< then: it counts as a relay to the service as long as this exists
  bool ktls = false;                ///< the service may be given a socket of path "ktls"
  bool onward = false;              ///< `service` is what a dial of that kind came to
};

class Helper;

/// A dial under way. Destroying it cancels it.
class Dial {
 public:
  virtual ~Dial() = default;
  /// Begins; calls Helper::finish_dial once, now or later, as the last thing it does: that destroys the dial.
  virtual void start() = 0;
  /// The router gave up: finish with any error.
  virtual void cancel() = 0;
};

/// Bound sockets. Destroying it closes them and drops what has not been admitted yet.
class Listener {
 public:
  virtual ~Listener() = default;
  /// With the actual port.
  virtual std::string uri() const = 0;
  /// Other workers can listen there, too.
  virtual bool is_shared() const { return false; }
};

/// What a helper does for the URI schemes it speaks.
class Scheme {
 public:
  virtual ~Scheme() = default;
  virtual std::vector<std::string> schemes() const = 0;
  /// The router's settings, at the start and after each reload; connections under way are not touched.
  virtual void configure(Helper&, JsonView /*settings*/) {}
  /// The helper ends, and its loop after it: nothing may be left on that.
  virtual void end() {}
  virtual std::unique_ptr<Dial> dial(Helper& helper, DialRequest request) = 0;
  virtual Result<std::unique_ptr<Listener>> listen(Helper& helper, ListenRequest request) = 0;
  /// The router's `relay`: true when the scheme took both descriptors, else both are as they were. Default:
  /// they are streams.
  virtual bool relay(Helper&, Fd& /*a*/, Fd& /*b*/, const RelayOptions&) { return false; }
};

/// A question to the router that is forgotten with this object.
class Question {
 public:
  Question() = default;
  Question(Channel& channel, std::uint64_t call) : channel_{&channel}, call_{call} {}
  Question(Question&& from) noexcept : channel_{std::exchange(from.channel_, nullptr)}, call_{from.call_} {}
  Question& operator=(Question&& from) noexcept;
  ~Question();

 private:
  Channel* channel_ = nullptr;
  std::uint64_t call_ = 0;
};

class Helper {
 public:
  /// Owns `channel`, a connected SOCK_SEQPACKET socket; says hello.
  Helper(Loop& loop, Fd channel, Scheme& scheme);
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  ~Helper();
  Loop& loop() { return loop_; }

  /// Answers a dial and destroys it: the caller must return at once.
  void finish_dial(const DialRequest& request, Result<DialAnswer> answer);
  /// Asks which of `addresses` may be connected to; DENIED (or the router's word) when none is.
  using OnJudged = std::function<void(Result<std::vector<Address>>)>;
  [[nodiscard]] Question judge(const DialRequest& request, const std::vector<Address>& addresses,
                               Milliseconds deadline, OnJudged on_judged);
  /// Asks what becomes of an inbound connection.
  using OnAdmitted = std::function<void(Result<Admission>)>;
  [[nodiscard]] Question ask_admission(const Arrival& arrival, Milliseconds deadline, OnAdmitted on_admitted);
  /// The caller bounds how often: peers cause it.
  void tell_failed(const Failure& failure);
  /// Hands an admitted connection over; `path` as in DialAnswer; `first`: datagrams that came before the
  /// socket existed.
  void deliver(const std::string& token, Fd fd, std::string_view path = "direct",
               const std::vector<std::string>& first = {});
  /// The peer of an admitted connection went away: nothing need be kept for it any longer.
  void give_up(const std::string& token);
  /// Carries between the two until both ends are done; outlives the channel. `a` is the network's side.
  /// `counted`: of its admission.
  void relay(std::unique_ptr<Stream> a, std::unique_ptr<Stream> b, RelayOptions options,
             std::shared_ptr<void> counted = {});
  /// `level`: "error", "warn", "info", "debug". At most 100 lines at once and ten a second: peers cause them.
  void log(std::string_view level, std::string_view message);
  bool is_ending() const { return is_ending_; }
  /// Work of the scheme that outlives the channel, as relays do: the loop goes on until all of it has ended.
  void begin_work() { ++works_; }
  void end_work();
  /// For what a scheme carries by itself.
  Carried& carried() { return carried_; }
  /// Closes listeners, drops dials, lets relays finish, then stops the loop. Happens when the channel ends.
  void end();

 private:
  void on_request(Channel::Incoming incoming);
  void on_notification(Channel::Incoming incoming);
  void on_dial(Channel::Incoming incoming);
  void on_listen(Channel::Incoming incoming);
  void on_cancel(JsonView params);
  void on_relay(Channel::Incoming incoming);
  Result<> begin_relay(Channel::Incoming& incoming);
  std::shared_ptr<void> count_relay(const std::string& service);
  void tell_carried();
  void stop_if_done();

  Loop& loop_;
  Scheme& scheme_;
  bool is_ending_ = false;
  std::unique_ptr<Channel> channel_;
  Carried carried_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Relay>> relays_;
  using Counts = std::unordered_map<std::string, std::size_t>;
  std::shared_ptr<Counts> relays_to_ = std::make_shared<Counts>();  ///< that were admitted, by service
  std::unordered_map<std::string, std::unique_ptr<Listener>> listeners_;
  std::unordered_map<std::string, std::unique_ptr<Dial>> dials_;
  std::uint64_t next_relay_ = 0;
  std::uint64_t log_since_ = 0;
  int log_room_ = 0;
  std::size_t works_ = 0;
};

/// The exit status of a helper that was not started by a router.
constexpr int exit_usage = 100;

/// The whole main of a helper: --help, --version, the descriptor in $PLUMBERD_HELPER_FD (checked), limits and
/// signals, the loop. `about` is one line for --help.
int helper_main(int argc, char** argv, std::string_view about, Scheme& scheme);

}  // namespace ipc
