// libuv behind four owning types. A callback may destroy its own handle: libuv's memory lives until its close
// callback ran.
#pragma once
#include <uv.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "ipc/fd.hh"

namespace ipc {

using Milliseconds = std::chrono::milliseconds;

class Loop {
 public:
  Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  /// Every handle must be gone; runs the loop once more so that close callbacks are served.
  ~Loop();
  void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
  void stop() { uv_stop(&loop_); }
  /// Monotonic milliseconds, read once per turn of the loop.
  std::uint64_t now() const { return uv_now(&loop_); }
  /// Runs `task` in a later turn of the loop, never from inside the caller.
  void post(std::function<void()> task);
  uv_loop_t* raw() { return &loop_; }

 private:
  uv_loop_t loop_{};
};

namespace detail {
template <class Handle, class Callback>
struct Watched {
  Handle handle{};
  Callback callback{};
};
/// Frees in the close callback, as libuv demands; a late event sees data == nullptr and does nothing.
struct CloseWatched {
  template <class Handle, class Callback>
  void operator()(Watched<Handle, Callback>* watched) const {
    watched->handle.data = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&watched->handle),
             [](uv_handle_t* done) { delete reinterpret_cast<Watched<Handle, Callback>*>(done); });
  }
};
template <class Handle, class Callback>
using Owned = std::unique_ptr<Watched<Handle, Callback>, CloseWatched>;
}  // namespace detail

/// Readiness of one descriptor (level triggered). The descriptor stays the caller's and must outlive the
/// watch or be stopped first.
class Poll {
 public:
  using Callback = std::function<void(int events)>;  ///< UV_READABLE | UV_WRITABLE | UV_DISCONNECT; errors
                                                     ///< arrive as all of them
  Poll() = default;
  Poll(Loop& loop, int fd, int events, Callback callback);
  void change(int events);
  void stop() { handle_.reset(); }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  detail::Owned<uv_poll_t, Callback> handle_;
};

class Timer {
 public:
  using Callback = std::function<void()>;
  Timer() = default;
  /// Fires once after `delay`, or with `repeat` again and again.
  Timer(Loop& loop, Milliseconds delay, Callback callback, Milliseconds repeat = Milliseconds{0});
  void stop() { handle_.reset(); }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  detail::Owned<uv_timer_t, Callback> handle_;
};

class Signal {
 public:
  using Callback = std::function<void()>;
  Signal() = default;
  Signal(Loop& loop, int number, Callback callback);

 private:
  detail::Owned<uv_signal_t, Callback> handle_;
};

}  // namespace ipc
