// What may take a while and can wait: answers to questions about the router, which must not keep dials
// waiting.
#pragma once
#include <sys/types.h>

#include <deque>
#include <functional>
#include <map>

#include "ipc/loop.hh"

namespace plumberd {

/// One task at a time, a fifth of the loop's time at the most, each user in turn.
class SlowLane {
 public:
  using Task = std::function<void()>;
  explicit SlowLane(ipc::Loop& loop) : loop_{loop} {}
  SlowLane(const SlowLane&) = delete;
  /// Whether another task of this user may wait: what waits holds its whole question.
  bool has_room(uid_t uid) const;
  /// At once where nothing of the kind was done just now, else in a later turn of the loop.
  void run(uid_t uid, Task task);

 private:
  void work(const Task& task);
  void next();
  ipc::Loop& loop_;
  std::map<uid_t, std::deque<Task>> waiting_;
  uid_t last_ = 0;    ///< whose task was done last
  ipc::Timer pause_;  ///< set: the lane rests
};

}  // namespace plumberd
