#include "ipc/loop.hh"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>

namespace ipc {
namespace {
// Only our own bugs and exhausted memory make these calls fail: there is nobody to report them to.
void must(int status) {
  if (status < 0) std::abort();
}

constexpr std::array<std::pair<int, std::uint32_t>, 5> flags{{{UV_READABLE, EPOLLIN},
                                                              {UV_WRITABLE, EPOLLOUT},
                                                              {UV_DISCONNECT, EPOLLRDHUP},
                                                              {UV_PRIORITIZED, EPOLLPRI},
                                                              {on_edge, EPOLLET}}};

std::uint32_t epoll_flags(int events) {
  std::uint32_t wanted = 0;
  for (const auto& [ours, theirs] : flags)
    if ((events & ours) != 0) wanted |= theirs;
  return wanted;
}

/// What the callback is told; a hang-up is whatever was waited for.
int happened(std::uint32_t ready, int wanted) {
  const int urgent = (ready & EPOLLPRI) != 0 ? UV_PRIORITIZED : 0;
  if ((ready & EPOLLERR) != 0) return UV_READABLE | UV_WRITABLE | UV_DISCONNECT | urgent;
  int events = (ready & EPOLLHUP) != 0 ? wanted : 0;
  for (const auto& [ours, theirs] : flags)
    if ((ready & theirs) != 0) events |= ours;
  return events;
}

std::uint64_t count(Milliseconds time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
}
}  // namespace

Loop::Loop() : epoll_{::epoll_create1(EPOLL_CLOEXEC)} {
  must(uv_loop_init(&loop_));
  epoll_event event{};
  event.events = EPOLLIN;  // data.ptr == nullptr: libuv's own set
  must(::epoll_ctl(epoll_.borrow(), EPOLL_CTL_ADD, uv_backend_fd(&loop_), &event));
}

Loop::~Loop() {
  uv_run(&loop_, UV_RUN_NOWAIT);
  // Work under way in another thread is waited for, but not for ever.
  constexpr int most_looks = 200;
  for (int i = 0; uv_loop_close(&loop_) == UV_EBUSY && i < most_looks; ++i) {
    ::poll(nullptr, 0, 5);
    uv_run(&loop_, UV_RUN_NOWAIT);
  }
}

bool Loop::is_alive() const {
  return watched_ > 0 || !alarms_.empty() || !posted_.empty() || uv_loop_alive(&loop_) != 0;
}

void Loop::run() {
  while (!stopping_ && is_alive()) {
    run_posted();
    run_libuv();
    run_alarms();
    bury_retired();  // before waiting: what dies may be all that there was to wait for
    if (!stopping_ && is_alive()) wait();
    bury_retired();
  }
  stopping_ = false;
}

/// What dies may own further handles, which then retire for the next turn.
void Loop::bury_retired() {
  dying_.swap(retired_);
  dying_.clear();
}

void Loop::run_posted() {
  for (auto& task : std::exchange(posted_, {})) task();
}

/// Those that are due, but not those that these set: a timer of no delay must not keep the loop here.
void Loop::run_alarms() {
  ++turn_;
  while (!alarms_.empty()) {
    auto* alarm = alarms_.begin()->second;
    if (alarms_.begin()->first > now() || alarm->turn == turn_) return;
    alarm->unset();
    if (alarm->repeat > 0) alarm->set(now() + alarm->repeat);
    alarm->callback();
  }
}

/// Handles to close, and whatever libuv's descriptors announced.
void Loop::run_libuv() {
  uv_update_time(&loop_);
  if (!touched_ && (uv_loop_alive(&loop_) == 0 || uv_backend_timeout(&loop_) != 0)) return;
  touched_ = false;
  uv_run(&loop_, UV_RUN_NOWAIT);
}

int Loop::timeout() const {
  if (touched_ || !posted_.empty()) return 0;
  const int libuv = uv_loop_alive(&loop_) != 0 ? uv_backend_timeout(&loop_) : -1;
  if (alarms_.empty()) return libuv;
  const auto due = alarms_.begin()->first;
  const auto left = static_cast<int>(std::min<std::uint64_t>(due > now() ? due - now() : 0, INT_MAX));
  return libuv < 0 ? left : std::min(libuv, left);
}

void Loop::wait() {
  std::array<epoll_event, 64> ready;
  const int number = ::epoll_wait(epoll_.borrow(), ready.data(), ready.size(), timeout());
  uv_update_time(&loop_);
  for (int i = 0; i < number && !stopping_; ++i) {
    const auto& event = ready[static_cast<std::size_t>(i)];
    auto* watch = static_cast<detail::Watch*>(event.data.ptr);
    if (watch == nullptr) {
      touched_ = true;
    } else if (!watch->stopped) {
      watch->callback(happened(event.events, watch->events));
    }
  }
}

bool detail::Watch::want(int wanted) {
  if (wanted == events) return true;
  epoll_event event{};
  event.events = epoll_flags(wanted);
  event.data.ptr = this;
  const int change = wanted == 0 ? EPOLL_CTL_DEL : events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(loop.epoll_.borrow(), change, fd, &event) != 0 && wanted != 0) return false;
  if (events == 0) ++loop.watched_;
  if (wanted == 0) --loop.watched_;
  events = wanted;
  return true;
}

Poll::Poll(Loop& loop, int fd, int events, Callback callback) {
  watch_.reset(new detail::Watch{loop, fd, std::move(callback)});
  if (!watch_->want(events)) watch_.reset();
}

void Poll::change(int events) {
  if (watch_) watch_->want(events);
}

void detail::Alarm::set(std::uint64_t due) {
  turn = loop.turn_;
  place = loop.alarms_.emplace(due, this);
  is_set = true;
}

void detail::Alarm::unset() {
  if (is_set) loop.alarms_.erase(place);
  is_set = false;
}

Timer::Timer(Loop& loop, Milliseconds delay, Callback callback, Milliseconds repeat) {
  alarm_.reset(new detail::Alarm{loop, std::move(callback), count(repeat)});
  alarm_->set(loop.now() + count(delay));
}

void detail::Retire::operator()(Watch* watch) const {
  watch->stopped = true;
  watch->want(0);
  watch->loop.retired_.emplace_back(watch);
}

void detail::Retire::operator()(Alarm* alarm) const {
  alarm->unset();
  alarm->loop.retired_.emplace_back(alarm);
}

struct Signal::Handle {
  uv_signal_t signal{};
  Callback callback{};
};

Signal::Signal(Loop& loop, int number, Callback callback) {
  auto* handle = new Handle{.callback = std::move(callback)};
  handle_.reset(handle);
  must(uv_signal_init(loop.raw(), &handle->signal));
  handle->signal.data = handle;
  const auto raised = [](uv_signal_t* signal, int) {
    if (auto* self = static_cast<Handle*>(signal->data)) self->callback();
  };
  must(uv_signal_start(&handle->signal, raised, number));
}

// Frees in the close callback, as libuv demands; a late signal sees data == nullptr and does nothing.
void Signal::Close::operator()(Handle* handle) const {
  handle->signal.data = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle->signal),
           [](uv_handle_t* done) { delete reinterpret_cast<Handle*>(done); });
}
}  // namespace ipc
