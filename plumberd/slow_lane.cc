#include "plumberd/slow_lane.hh"

namespace plumberd {
namespace {
// For each millisecond in the lane four for everybody else.
constexpr std::uint64_t rest_per_work = 4;
constexpr std::size_t most_waiting = 32;  // of one user
}  // namespace

bool SlowLane::has_room(uid_t uid) const {
  const auto found = waiting_.find(uid);
  return found == waiting_.end() || found->second.size() < most_waiting;
}

void SlowLane::run(uid_t uid, Task task) {
  if (!pause_) return work(task);
  waiting_[uid].push_back(std::move(task));
}

void SlowLane::work(const Task& task) {
  pause_ = ipc::Timer{loop_, ipc::Milliseconds{0}, [] {}};  // what the task asks for waits, too
  const auto began = uv_hrtime();
  task();
  const ipc::Milliseconds rest{rest_per_work * (uv_hrtime() - began) / 1'000'000};
  pause_ = ipc::Timer{loop_, rest, [this] { next(); }};
}

void SlowLane::next() {
  pause_.stop();
  if (waiting_.empty()) return;
  auto turn = waiting_.upper_bound(last_);
  if (turn == waiting_.end()) turn = waiting_.begin();
  last_ = turn->first;
  const auto task = std::move(turn->second.front());
  turn->second.pop_front();
  if (turn->second.empty()) waiting_.erase(turn);
  work(task);
}
}  // namespace plumberd
