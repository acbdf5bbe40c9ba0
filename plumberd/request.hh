// One request of a local client (or of a transit): identify, route, judge, dial, reply. Read from top to
// bottom in request.cc.
#pragma once
#include <functional>
#include <memory>

#include "plumberd/plan.hh"
#include "plumberd/router.hh"
#include "plumberd/unix_connect.hh"

namespace plumberd {

struct Connection {
  ipc::Fd fd;  ///< blocking
  std::string path;
  ipc::Labels labels;
  Helper* via = nullptr;  ///< the helper that dialled; null for local connections
  bool onward = false;    ///< as in Dialled
};

class Request : public std::enable_shared_from_this<Request> {
 public:
  /// Called once, never from inside `start`'s caller before it returned unless the outcome is known at once.
  using Done = std::function<void(ipc::Result<Connection>, const Decision&)>;
  /// The request lives until `done` was called or `cancel` was.
  static std::shared_ptr<Request> start(Router& router, Ask ask, Asker asker, Done done);
  /// Nobody waits any more: the dial is called off, `done` is not called.
  void cancel();
  Request(Router& router, Ask ask, Asker asker, Done done);
  Request(const Request&) = delete;
  /// Wipes what may hold a secret.
  ~Request();

 private:
  void run();
  void try_next();
  void open(const Target& target);
  void open_offered(const Target& target);
  void open_path(const Target& target);
  void open_unguarded(const Target& target);
  void open_socket(const Target& target, PatientConnect::Try attempt);
  void connected(const Target& target, ipc::Result<ipc::Fd> socket);
  bool judge_owner(const Target& target, int socket);
  void dial(const Target& target, Judged judged);
  void dial_through(Helper& helper, const Target& target, Judged judged);
  void await_resolver(Helper& helper, const Target& target, DialOrder order);
  void send_dial(Helper& helper, const Target& target, DialOrder order);
  std::vector<std::string> judge_found(const Target& target, const std::vector<std::string>& addresses);
  std::optional<Dialled> take_warm(const Target& target, const Judged& judged);
  void dialled(const Target& target, ipc::Result<Dialled> outcome);
  ipc::Result<> check_peer(const Target& target, const PeerSocket& socket) const;
  void miss(const Target& target, ipc::Error error);
  void deny(const Target& target);
  void succeed(Connection connection);
  void fail(ipc::Error error);
  void finish(ipc::Result<Connection> outcome);
  bool may_see_rule() const;
  ipc::Milliseconds share_of_time() const;

  Router& router_;
  std::shared_ptr<const Config> config_;      ///< the generation it started under
  std::shared_ptr<const HelperSet> helpers_;  ///< and its helpers
  Ask ask_;
  Asker asker_;
  Done done_;
  Decision decision_;
  Routed routed_;
  std::size_t next_target_ = 0;
  std::uint64_t ends_at_ = 0;  ///< loop time
  std::uint64_t dial_started_ = 0;
  std::optional<Dialled> warm_;     ///< a spare whose hop is being made, without its descriptor
  bool without_spares_ = false;     ///< one failed
  ResolverShare::Place resolving_;  ///< while the helper resolves for us
  ResolverShare::Turn turn_;        ///< while we wait for that
  ipc::Timer turn_limit_;
  std::vector<std::string> allowed_;  ///< addresses that may be dialled
  ipc::Error last_error_;
  std::optional<PatientConnect> opening_;
  Helper* helper_ = nullptr;
  std::uint64_t dial_id_ = 0;
  std::shared_ptr<Request> self_;  ///< alive while somebody waits
};

}  // namespace plumberd
