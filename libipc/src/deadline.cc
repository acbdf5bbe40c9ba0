#include "ipc/deadline.hh"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace ipc {
using Clock = std::chrono::steady_clock;

Deadline::Deadline(Milliseconds after) : never_{after < Milliseconds{0}} {
  constexpr Milliseconds longest = std::chrono::hours{24 * 365};
  end_ = Clock::now() + std::clamp(after, Milliseconds{0}, longest);
}

int Deadline::poll_timeout() const {
  if (never_) return -1;
  const auto ms = std::chrono::ceil<Milliseconds>(end_ - Clock::now()).count();
  return static_cast<int>(std::clamp<Milliseconds::rep>(ms, 0, std::numeric_limits<int>::max()));
}

Milliseconds Deadline::left(Milliseconds otherwise) const {
  return never_ ? otherwise : Milliseconds{poll_timeout()};
}

Result<> wait_ready(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd ready{fd, events, 0};
    const int count = ::poll(&ready, 1, deadline.poll_timeout());
    if (count > 0) return {};
    if (count == 0) return fail(Word::timeout, "the deadline passed");
    if (errno != EINTR) return fail_errno("poll");
  }
}
}  // namespace ipc
