// The native door (docs/protocol.md, section 3): sessions of local clients, services and operators.
#pragma once
#include <memory>
#include <set>
#include <unordered_map>

#include "ipc/channel.hh"
#include "plumberd/acceptor.hh"
#include "plumberd/params.hh"
#include "plumberd/request.hh"
#include "plumberd/router.hh"
#include "plumberd/slow_lane.hh"

namespace plumberd {

class Reloader;
class NativeDoor;

/// One connection. Whatever it asked for ends with it: requests are cancelled, names withdrawn, subscriptions
/// dropped.
class Session : public Offerer {
 public:
  Session(NativeDoor& door, ipc::StrangerFd socket, Identity identity, Accounts::Ticket ticket);
  ~Session() override;
  uid_t uid() const override { return identity_->uid(); }
  bool has_room() override;
  bool takes_ktls(std::string_view service) const override { return takes_ktls_.contains(service); }
  /// Looks how many of the descriptors sent are unread still.
  void recount() { unread_.set(channel_.unread_fds()); }
  ipc::Result<> accepted(std::string_view service, int fd, const ipc::Labels& labels,
                         std::string_view first) override;

 private:
  using Incoming = ipc::Channel::Incoming;
  /// Who may ask, and at what price: `counted` requests of others than operators cost them a token and wait
  /// for their turn in the slow lane.
  enum class Access : std::uint8_t { anybody, counted, operators };
  struct Method {
    std::string_view name;
    Access access;
    void (Session::*handle)(const Incoming&);
    std::span<const Param> params{};
  };
  static const std::array<Method, 11> methods;
  void on_request(Incoming incoming);
  void handle(const Method& method, const Incoming& incoming);
  void in_its_turn(const Method& method, Incoming incoming);
  void refuse(const Incoming& incoming, const ipc::Error& error) { refuse(incoming.message.id, error); }
  /// `extra` as of Channel::refuse.
  void refuse(const std::string& id, const ipc::Error& error, std::string extra = {});
  bool is_operator() const;
  void connect(const Incoming& incoming);
  void connected(const std::string& id, ipc::Result<Connection> outcome, const Decision& decision);
  void serve(const Incoming& incoming);
  void list(const Incoming& incoming);
  void explain(const Incoming& incoming);
  void explain_inbound(const Incoming& incoming);
  void events(const Incoming& incoming);
  void show_event(const Decision& decision, bool all);
  void send_event(const Decision& decision);
  Decision disclosed(Decision decision) const;
  void cancel_requests();
  void ping(const Incoming& incoming);
  void status(const Incoming& incoming);
  void rules(const Incoming& incoming);
  void reload(const Incoming& incoming);
  void confirm(const Incoming& incoming);
  void metrics(const Incoming& incoming);

  NativeDoor& door_;
  Router& router_;
  std::shared_ptr<Identity> identity_;
  Accounts::Ticket ticket_;
  Accounts::Unread unread_;
  std::set<std::string, std::less<>> takes_ktls_;  ///< names of which it said so
  std::uint64_t lost_events_ = 0;                  ///< since the last one that was sent
  Accounts::Ticket following_;
  Events::Subscription subscription_;
  struct Pending {
    Accounts::Ticket ticket;
    bool with_decision;
    std::shared_ptr<Request> request{};
  };
  std::unordered_map<std::string, Pending> requests_;  ///< under way, by id
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  ipc::Channel channel_;
};

class NativeDoor {
 public:
  NativeDoor(Router& router, Reloader& reloader, ipc::Fd listener);
  Router& router() { return router_; }
  Reloader& reloader() { return reloader_; }
  SlowLane& slow_lane() { return slow_lane_; }
  void end(Session* session);
  /// Recounts the unread descriptors of all of the user's sessions: whether there may be another. Not again
  /// at once after there may not.
  bool recount(uid_t uid, const Accounts::Unread& unread);
  std::size_t sessions() const { return sessions_.size(); }

 private:
  void admit(ipc::StrangerFd socket);
  Router& router_;
  Reloader& reloader_;
  SlowLane slow_lane_;
  uid_t full_uid_ = 0;            ///< the last user of whom a recount found too many
  std::uint64_t full_since_ = 0;  ///< loop time
  std::unordered_map<Session*, std::unique_ptr<Session>> sessions_;
  Acceptor acceptor_;
};

}  // namespace plumberd
