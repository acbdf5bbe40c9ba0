#include "ipc/loop.hh"

#include <cstdlib>

namespace ipc {
namespace {
// Only our own bugs and exhausted memory make libuv's init calls fail: there is nobody to report them to.
void must(int status) {
  if (status < 0) std::abort();
}

template <class Watched, class Handle>
Watched* watched(Handle* handle) {
  return static_cast<Watched*>(handle->data);
}
}  // namespace

Loop::Loop() { must(uv_loop_init(&loop_)); }

Loop::~Loop() {
  uv_run(&loop_, UV_RUN_NOWAIT);
  uv_loop_close(&loop_);
}

void Loop::post(std::function<void()> task) {
  using Posted = detail::Watched<uv_timer_t, std::function<void()>>;
  auto* posted = new Posted;
  posted->callback = std::move(task);
  must(uv_timer_init(&loop_, &posted->handle));
  const auto run = [](uv_timer_t* timer) {
    auto* self = reinterpret_cast<Posted*>(timer);
    self->callback();
    detail::CloseWatched{}(self);
  };
  must(uv_timer_start(&posted->handle, run, 0, 0));
}

Poll::Poll(Loop& loop, int fd, int events, Callback callback) {
  using Watch = detail::Watched<uv_poll_t, Callback>;
  auto* watch = new Watch;
  watch->callback = std::move(callback);
  if (uv_poll_init(loop.raw(), &watch->handle, fd) <
      0) {  // a descriptor epoll refuses: it will never be ready
    delete watch;
    return;
  }
  watch->handle.data = watch;
  handle_.reset(watch);
  change(events);
}

void Poll::change(int events) {
  if (!handle_) return;
  const auto ready = [](uv_poll_t* handle, int status, int happened) {
    auto* self = watched<detail::Watched<uv_poll_t, Callback>>(handle);
    if (self != nullptr) self->callback(status < 0 ? UV_READABLE | UV_WRITABLE | UV_DISCONNECT : happened);
  };
  uv_poll_start(&handle_->handle, events, ready);
}

Timer::Timer(Loop& loop, Milliseconds delay, Callback callback, Milliseconds repeat) {
  handle_.reset(new detail::Watched<uv_timer_t, Callback>);
  handle_->callback = std::move(callback);
  must(uv_timer_init(loop.raw(), &handle_->handle));
  handle_->handle.data = handle_.get();
  const auto fire = [](uv_timer_t* timer) {
    auto* self = watched<detail::Watched<uv_timer_t, Callback>>(timer);
    if (self != nullptr) self->callback();
  };
  const auto count = [](Milliseconds time) {
    return static_cast<std::uint64_t>(time.count() < 0 ? 0 : time.count());
  };
  must(uv_timer_start(&handle_->handle, fire, count(delay), count(repeat)));
}

Signal::Signal(Loop& loop, int number, Callback callback) {
  handle_.reset(new detail::Watched<uv_signal_t, Callback>);
  handle_->callback = std::move(callback);
  must(uv_signal_init(loop.raw(), &handle_->handle));
  handle_->handle.data = handle_.get();
  const auto raised = [](uv_signal_t* signal, int) {
    auto* self = watched<detail::Watched<uv_signal_t, Callback>>(signal);
    if (self != nullptr) self->callback();
  };
  must(uv_signal_start(&handle_->handle, raised, number));
}
}  // namespace ipc
