// The loop: descriptors and timers by itself, everything else through libuv, behind four owning types. A
// callback may destroy its own handle: the memory lives until the callback has returned.
#pragma once
#include <uv.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "ipc/fd.hh"

namespace ipc {

using Milliseconds = std::chrono::milliseconds;
/// With the events of a `Poll`: each is reported once, when it comes about (EPOLLET, epoll(7)), and whatever
/// stands is reported again after a change of the events.
inline constexpr int on_edge = 1 << 8;
class Loop;

namespace detail {
/// What an event or a callback may still be in when it is given up: it lives until the turn's end.
struct Retirable {
  virtual ~Retirable() = default;
};

/// One descriptor in the loop's epoll set, while `events` are wanted.
struct Watch : Retirable {
  Watch(Loop& its_loop, int its_fd, std::function<void(int)> its_callback)
      : loop{its_loop}, fd{its_fd}, callback{std::move(its_callback)} {}
  /// False when epoll refuses the descriptor.
  bool want(int wanted);

  Loop& loop;
  int fd;
  std::function<void(int)> callback;
  int events = 0;
  bool stopped = false;
};

/// One entry of the loop's `alarms_`, while it is set.
struct Alarm : Retirable {
  Alarm(Loop& its_loop, std::function<void()> its_callback, std::uint64_t its_repeat)
      : loop{its_loop}, callback{std::move(its_callback)}, repeat{its_repeat} {}
  void set(std::uint64_t due);
  void unset();

  Loop& loop;
  std::function<void()> callback;
  std::uint64_t repeat;
  std::uint64_t turn = 0;  ///< of the loop, in which it was set
  std::multimap<std::uint64_t, Alarm*>::iterator place{};
  bool is_set = false;
};

struct Retire {
  void operator()(Watch* watch) const;
  void operator()(Alarm* alarm) const;
};
}  // namespace detail

/// What every dial uses is done here and not by libuv. Descriptors are watched with an epoll set of our own,
/// of which libuv's is one member: a client that connects, asks once and leaves costs two epoll_ctl(2)
/// instead of the five of uv_poll_t. Timers, mostly deadlines that never come, need no turn of libuv's loop
/// to be dropped.
class Loop {
 public:
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  /// Every handle must be gone; runs libuv once more so that close callbacks are served.
  ~Loop();
  /// Until `stop`, or until nothing is left to wait for.
  void run();
  void stop() { stopping_ = true; }
  /// Monotonic milliseconds, read once per turn of the loop.
  std::uint64_t now() const { return uv_now(&loop_); }
  /// Runs `task` in a later turn of the loop, never from inside the caller.
  void post(std::function<void()> task) { posted_.push_back(std::move(task)); }
  /// For libuv's own requests and handles (uv_spawn, uv_getaddrinfo, ...); ask again for each.
  uv_loop_t* raw() {
    touched_ = true;  // libuv arms new watchers only when it runs
    return &loop_;
  }

 private:
  friend struct detail::Watch;
  friend struct detail::Alarm;
  friend struct detail::Retire;
  bool is_alive() const;
  void run_posted();
  void run_alarms();
  void run_libuv();
  int timeout() const;
  void wait();
  void bury_retired();

  uv_loop_t loop_{};
  Fd epoll_;
  std::vector<std::function<void()>> posted_;
  std::multimap<std::uint64_t, detail::Alarm*> alarms_;  ///< by the time they are due
  std::vector<std::unique_ptr<detail::Retirable>> retired_, dying_;
  std::size_t watched_ = 0;
  std::uint64_t turn_ = 0;
  bool stopping_ = false;
  bool touched_ = false;
};

/// Readiness of one descriptor, level triggered unless `on_edge` is among the events. The descriptor stays
/// the caller's, who sees to it that no call on it waits, and must outlive the watch or be stopped first.
class Poll {
 public:
  /// UV_READABLE | UV_WRITABLE | UV_DISCONNECT | UV_PRIORITIZED; a hang-up arrives as whatever was waited
  /// for, an error as all of them: again and again until it is fetched or the watch stopped.
  using Callback = std::function<void(int events)>;
  Poll() = default;
  /// A descriptor that epoll refuses (a plain file) will never be ready: the watch is then empty.
  Poll(Loop& loop, int fd, int events, Callback callback);
  /// 0: nothing is reported, not even errors.
  void change(int events);
  void stop() { watch_.reset(); }
  explicit operator bool() const { return watch_ != nullptr; }

 private:
  std::unique_ptr<detail::Watch, detail::Retire> watch_;
};

class Timer {
 public:
  using Callback = std::function<void()>;
  Timer() = default;
  /// Fires once after `delay`, or with `repeat` again and again.
  Timer(Loop& loop, Milliseconds delay, Callback callback, Milliseconds repeat = Milliseconds{0});
  void stop() { alarm_.reset(); }
  explicit operator bool() const { return alarm_ != nullptr; }

 private:
  std::unique_ptr<detail::Alarm, detail::Retire> alarm_;
};

class Signal {
 public:
  using Callback = std::function<void()>;
  Signal() = default;
  Signal(Loop& loop, int number, Callback callback);

 private:
  struct Handle;
  struct Close {
    void operator()(Handle* handle) const;
  };
  std::unique_ptr<Handle, Close> handle_;
};

}  // namespace ipc
