// Connections that helpers accept: judged `in`, then delivered to the offering service or relayed to its UNIX
// socket.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "plumberd/accounts.hh"
#include "plumberd/decision.hh"
#include "plumberd/helper.hh"
#include "plumberd/listeners.hh"

namespace plumberd {

struct Router;

class Admissions {
 public:
  using Answer = std::function<void(ipc::Result<Helper::Admission>)>;
  explicit Admissions(Router& router) : router_{router} {}
  /// A helper asks for an accepted connection; `answer` is called once, at once or when a transit dial is
  /// done.
  void admit(Inbound inbound, Answer answer);
  /// It came to nothing before it could be asked for: an event like any other.
  void note_failure(Inbound inbound, ipc::Error error);
  /// The helper wrote its OK: the socket goes to the service that the token reserved.
  void deliver(Delivery delivery);
  /// It will not be delivered: the helper says so, or its time is over.
  void expire(const std::string& token);

 private:
  struct Reservation {
    Decision decision;
    std::string service;
    ipc::Labels labels;
    ipc::Timer deadline;
    Tally::Mark mark;
  };
  struct Entry;
  void begin_decision(Entry& entry);
  ipc::Result<> locate(Entry& entry, const Listeners::Bound& bound);
  ipc::Result<> judge(Entry& entry, const Listeners::Bound& bound);
  void open(Entry entry, bool transit);
  void reserve(Entry entry);
  void connect(Entry entry);
  ipc::Result<ipc::Fd> open_service(const Entry& entry) const;
  void connected(Entry& entry, ipc::Result<ipc::Fd> socket);
  ipc::Result<> judge_owner(Entry& entry, int socket);
  /// `onward`: `service` is no service's socket but a dial's, as in Dialled.
  void relay(Entry& entry, ipc::Fd service, bool onward = false);
  void pass_on(Entry entry);
  ipc::Result<> check_relays(const Entry& entry) const;
  static ipc::Error told(const Entry& entry, ipc::Word word);
  void refuse(Entry& entry, ipc::Error error);
  void refuse_hidden(Entry& entry, ipc::Error error);
  void refuse(Entry& entry, ipc::Error error, ipc::Error told);
  std::string new_token();
  Router& router_;
  std::unordered_map<std::string, Reservation> tokens_;
  std::uint64_t next_token_ = 1;
  Tally pending_;  ///< connections that were admitted and not delivered yet, by service
};

}  // namespace plumberd
