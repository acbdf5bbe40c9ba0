// A point in time up to which a blocking call goes on, and the one wait that all of them use.
#pragma once
#include <chrono>

#include "ipc/error.hh"

namespace ipc {

using Milliseconds = std::chrono::milliseconds;

class Deadline {
 public:
  /// Negative: never.
  explicit Deadline(Milliseconds after);
  static Deadline never() { return Deadline{Milliseconds{-1}}; }
  /// What poll(2) wants: milliseconds left rounded up, 0 when it passed, -1 for never.
  int poll_timeout() const;
  bool passed() const { return poll_timeout() == 0; }
  /// Time left; `otherwise` for never.
  Milliseconds left(Milliseconds otherwise) const;

 private:
  std::chrono::steady_clock::time_point end_{};
  bool never_ = false;
};

/// Waits until one of `events` (poll.h), an error or a hang-up is there; EINTR goes on waiting. TIMEOUT
/// otherwise.
Result<> wait_ready(int fd, short events, const Deadline& deadline);

}  // namespace ipc
