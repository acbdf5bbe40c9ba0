// The helpers' resolvers have a bounded number of threads, and a thread waits for a silent name server
// whoever gave up meanwhile: no user has more than a part of them. Its further names wait for their turn.
#pragma once
#include <sys/types.h>

#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>

#include "ipc/loop.hh"

namespace plumberd {

class ResolverShare {
 public:
  /// The right to have one name resolved; given back when it goes.
  class Place {
   public:
    Place() = default;
    Place(ResolverShare* share, uid_t uid) : share_{share}, uid_{uid} {}
    Place(Place&& from) noexcept : share_{std::exchange(from.share_, nullptr)}, uid_{from.uid_} {}
    Place& operator=(Place&& from) noexcept;
    ~Place() { give_back(); }
    explicit operator bool() const { return share_ != nullptr; }

   private:
    void give_back();
    ResolverShare* share_ = nullptr;
    uid_t uid_ = 0;
  };
  using Go = std::function<void(Place)>;
  using Turn = std::shared_ptr<Go>;

  explicit ResolverShare(ipc::Loop& loop) : loop_{loop} {}
  ResolverShare(const ResolverShare&) = delete;
  /// A place if the user has one left.
  Place take(uid_t uid);
  /// `go` is called with a place as soon as there is one, unless the turn was dropped.
  [[nodiscard]] Turn wait(uid_t uid, Go go);
  /// Nobody waits for the answer any more; the resolver may, for a while.
  void abandon(Place place);

 private:
  struct User {
    unsigned taken = 0;
    std::deque<std::weak_ptr<Go>> waiting{};
  };
  void give_back(uid_t uid);
  void serve(uid_t uid);
  void let_go();
  ipc::Loop& loop_;
  std::unordered_map<uid_t, User> users_;
  std::deque<std::pair<std::uint64_t, Place>> abandoned_;  ///< with the time when they are given back
  ipc::Timer sweep_;
};

}  // namespace plumberd
