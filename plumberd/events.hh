// Decisions after they were made: logged, kept in a bounded ring, sent to whoever listens.
#pragma once
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>

#include "ipc/loop.hh"
#include "plumberd/decision.hh"
#include "plumberd/log.hh"

namespace plumberd {

class Events {
 public:
  using Event = std::shared_ptr<const Decision>;
  using Listener = std::function<void(const Event&)>;
  Events(ipc::Loop& loop, Log& log) : loop_{loop}, log_{log} {}

  /// The number and time of a new decision.
  void stamp(Decision& decision);
  void publish(Decision decision);
  const std::deque<Event>& history() const { return history_; }

  /// Called for each event until the subscription is destroyed.
  class Subscription {
   public:
    Subscription() = default;
    Subscription(Events* events, std::list<Listener>::iterator place) : events_{events}, place_{place} {}
    Subscription(Subscription&& from) noexcept
        : events_{std::exchange(from.events_, nullptr)}, place_{from.place_} {}
    Subscription& operator=(Subscription&& from) noexcept {
      std::swap(events_, from.events_);
      std::swap(place_, from.place_);
      return *this;
    }
    ~Subscription() {
      if (events_ != nullptr) events_->listeners_.erase(place_);
    }
    explicit operator bool() const { return events_ != nullptr; }

   private:
    Events* events_ = nullptr;
    std::list<Listener>::iterator place_{};
  };
  Subscription subscribe(Listener listener);

 private:
  void keep(Event event);
  void write(const Decision& decision);
  bool may_write(const Decision& decision, bool denial);
  void tell_suppressed();
  ipc::Loop& loop_;
  Log& log_;
  std::deque<Event> history_;
  std::list<Listener> listeners_;
  std::uint64_t next_id_ = 1;
  std::uint64_t second_ = 0;
  unsigned written_ = 0;  ///< lines in this second, and by user
  std::unordered_map<uid_t, unsigned> written_of_;
  std::uint64_t suppressed_ = 0;
  std::uint64_t suppressed_denials_ = 0;
  ipc::Timer tell_;
};

}  // namespace plumberd
