// What each local user makes the router hold: connections, requests under way, unread descriptors, followed
// events; and requests per second.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "ipc/error.hh"
#include "plumberd/config.hh"

namespace plumberd {

/// How many things of some kind there are by name, each counted as long as its mark exists.
class Tally {
 public:
  using Mark = std::shared_ptr<void>;
  std::size_t of(std::string_view name) const;
  [[nodiscard]] Mark add(std::string_view name);

 private:
  using Counts = std::map<std::string, std::size_t, std::less<>>;
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

class Accounts {
 public:
  /// Gives back what it counted when it goes.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(unsigned* count, Accounts* owner, uid_t uid) : count_{count}, owner_{owner}, uid_{uid} {}
    Ticket(Ticket&& from) noexcept
        : count_{std::exchange(from.count_, nullptr)}, owner_{from.owner_}, uid_{from.uid_} {}
    Ticket& operator=(Ticket&& from) noexcept;
    ~Ticket() { give_back(); }

   private:
    void give_back();
    unsigned* count_ = nullptr;
    Accounts* owner_ = nullptr;
    uid_t uid_ = 0;
  };

  /// Descriptors that were sent to a user and are not known to be read; given back with this object. They
  /// count against our RLIMIT_NOFILE (ETOOMANYREFS), whoever does not read them.
  class Unread {
   public:
    Unread(Accounts& accounts, uid_t uid) : accounts_{accounts}, uid_{uid} {}
    Unread(const Unread&) = delete;
    ~Unread() { set(0); }
    void set(std::size_t count);
    void add(std::size_t count) { set(count_ + count); }
    std::size_t count() const { return count_; }
    /// Whether the user may be sent another one.
    bool may_grow() const;

   private:
    Accounts& accounts_;
    uid_t uid_;
    std::size_t count_ = 0;
  };

  Accounts();
  /// BUSY when the user's limit is reached, or half of our descriptors are the user's. `now` is monotonic
  /// milliseconds.
  ipc::Result<Ticket> open_connection(uid_t uid, const Limits& limits);
  ipc::Result<Ticket> begin_request(uid_t uid, const Limits& limits, std::uint64_t now);
  /// For as long as a connection follows events: each costs work for every event, and room while it does not
  /// read.
  ipc::Result<Ticket> follow_events(uid_t uid);
  /// When a user that was just refused may come back: at the bucket's next token, else soon.
  std::uint64_t retry_after_ms(uid_t uid, const Limits& limits) const;
  std::size_t users() const { return accounts_.size(); }

 private:
  struct Account {
    unsigned connections = 0;
    unsigned pending = 0;
    unsigned following = 0;
    std::size_t unread_fds = 0;
    double tokens = -1;  ///< of the bucket; negative: never used
    std::uint64_t refilled = 0;
  };
  ipc::Result<> take_token(Account& account, const Limits& limits, std::uint64_t now);
  void forget_if_idle(uid_t uid);
  std::unordered_map<uid_t, Account> accounts_;
  unsigned most_connections_;
  std::size_t most_unread_fds_;
};

}  // namespace plumberd
