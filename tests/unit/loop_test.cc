// The loop: what happens to handles that are given up while they are called, and in which order things run.
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "ipc/loop.hh"

namespace {
using ipc::Fd;
using ipc::Loop;
using ipc::Milliseconds;
using ipc::on_edge;
using ipc::Poll;
using ipc::Timer;

std::pair<Fd, Fd> pair() {
  auto made = ipc::socket_pair(SOCK_STREAM);
  cr_assert(made.has_value());
  return std::move(*made);
}

void tell(const Fd& fd) { cr_assert_eq(::send(fd.borrow(), "x", 1, MSG_NOSIGNAL), 1); }
}  // namespace

Test(loop, ends_when_nothing_is_left_to_wait_for) {
  Loop loop;
  loop.run();
  int fired = 0;
  const Timer timer{loop, Milliseconds{1}, [&] { ++fired; }};
  loop.run();
  cr_assert_eq(fired, 1);
}

Test(loop, timers_fire_in_the_order_of_their_time_and_repeat_until_stopped) {
  Loop loop;
  std::string order;
  Timer late{loop, Milliseconds{20}, [&] { order += 'c'; }};
  Timer early{loop, Milliseconds{1}, [&] { order += 'a'; }};
  Timer again;
  again = Timer{loop, Milliseconds{2},
                [&] {
                  order += 'b';
                  if (order == "abb") again.stop();
                },
                Milliseconds{2}};
  loop.run();
  cr_assert_str_eq(order.c_str(), "abbc");
}

Test(loop, a_stopped_timer_stays_silent_and_keeps_nothing_alive) {
  Loop loop;
  Timer timer{loop, Milliseconds{60'000}, [] { cr_assert(false, "it was stopped"); }};
  timer.stop();
  loop.run();
}

Test(loop, a_timer_of_no_delay_that_sets_itself_does_not_starve_a_descriptor) {
  Loop loop;
  const auto [here, there] = pair();
  Timer timer;
  std::function<void()> set = [&] { timer = Timer{loop, Milliseconds{0}, set}; };
  set();
  const Poll poll{loop, here.borrow(), UV_READABLE, [&](int) { loop.stop(); }};
  tell(there);
  loop.run();
}

Test(loop, callbacks_may_destroy_their_own_handles) {
  Loop loop;
  const auto [here, there] = pair();
  Poll poll;
  Timer timer;
  const std::string much(100, 'x');  // captured by value: it dies with the callback
  std::string seen;
  poll = Poll{loop, here.borrow(), UV_READABLE, [&, much](int) {
                poll = {};
                seen += much;
              }};
  timer = Timer{loop, Milliseconds{0}, [&, much] {
                  timer = {};
                  seen += much;
                }};
  tell(there);
  loop.run();
  cr_assert_eq(seen.size(), 2 * much.size());
}

Test(loop, an_event_of_a_watch_that_another_callback_stopped_is_dropped) {
  Loop loop;
  const auto [a, tell_a] = pair();
  const auto [b, tell_b] = pair();
  int called = 0;
  std::array<Poll, 2> polls;
  for (std::size_t i = 0; i < 2; ++i)
    polls[i] = Poll{loop, (i == 0 ? a : b).borrow(), UV_READABLE, [&](int) {
                      ++called;
                      polls[0].stop();
                      polls[1].stop();
                    }};
  tell(tell_a);
  tell(tell_b);
  loop.run();
  cr_assert_eq(called, 1);
}

Test(loop, what_is_watched_on_edge_is_told_once_and_again_after_a_change) {
  Loop loop;
  const auto [here, there] = pair();
  int called = 0;
  Timer turn;  // of which every one finds the byte unread
  Poll poll{loop, here.borrow(), UV_READABLE | on_edge, [&](int events) {
              ++called;
              cr_expect_eq(events & UV_READABLE, UV_READABLE);
            }};
  tell(there);
  const auto turns = [&] {
    int left = 3;
    turn = Timer{loop, Milliseconds{0}, [&] { --left > 0 ? void() : loop.stop(); }, Milliseconds{1}};
    loop.run();
  };
  turns();
  cr_expect_eq(called, 1);
  tell(there);
  turns();
  cr_expect_eq(called, 2);
  poll.change(UV_READABLE | UV_WRITABLE | on_edge);
  turns();
  cr_expect_eq(called, 3);
}

Test(loop, what_a_dying_callback_owns_may_own_handles_too) {
  Loop loop;
  const auto [here, there] = pair();
  auto owned = std::make_shared<Poll>(loop, here.borrow(), UV_READABLE, [](int) {});
  Timer timer;
  timer = Timer{loop, Milliseconds{0}, [&timer, owned] { timer.stop(); }};
  owned.reset();
  loop.run();
}

Test(loop, a_hang_up_is_reported_as_what_was_waited_for_and_not_at_all_to_who_waits_for_nothing) {
  Loop loop;
  auto [here, there] = pair();
  int events = 0;
  Poll poll{loop, here.borrow(), UV_READABLE | UV_DISCONNECT, [&](int happened) {
              events = happened;
              poll.change(0);
            }};
  there = {};
  Timer end{loop, Milliseconds{20}, [&] { loop.stop(); }};
  loop.run();
  cr_assert(events & UV_READABLE);
  cr_assert(events & UV_DISCONNECT);
  poll.change(UV_READABLE);
  events = 0;
  loop.run();
  cr_assert(events & UV_READABLE);
}

Test(loop, a_posted_task_runs_later_and_may_post_again) {
  Loop loop;
  std::string order;
  loop.post([&] {
    order += 'b';
    loop.post([&] { order += 'd'; });
    order += 'c';
  });
  order += 'a';
  loop.run();
  cr_assert_str_eq(order.c_str(), "abcd");
}

Test(loop, stopped_before_it_runs_it_returns_once) {
  Loop loop;
  int fired = 0;
  const Timer timer{loop, Milliseconds{0}, [&] { ++fired; }};
  loop.stop();
  loop.run();
  cr_assert_eq(fired, 0);
  loop.run();
  cr_assert_eq(fired, 1);
}

Test(loop, a_plain_file_gives_an_empty_watch) {
  Loop loop;
  char name[] = "/tmp/loop-test-XXXXXX";
  const Fd file{::mkstemp(name)};
  ::unlink(name);
  const Poll poll{loop, file.borrow(), UV_READABLE, [](int) {}};
  cr_assert_not(poll);
  loop.run();
}

Test(loop, requests_of_libuv_and_signals_are_served) {
  Loop loop;
  bool worked = false, raised = false;
  uv_work_t work{};
  work.data = &worked;
  ipc::Signal signal;
  signal = ipc::Signal{loop, SIGUSR1, [&] {
                         raised = true;
                         signal = {};
                       }};
  const auto done = [](uv_work_t* request, int) { *static_cast<bool*>(request->data) = true; };
  const Timer later{loop, Milliseconds{5}, [&] {
                      uv_queue_work(
                          loop.raw(), &work, [](uv_work_t*) {}, done);
                      ::raise(SIGUSR1);
                    }};
  loop.run();
  cr_assert(worked);
  cr_assert(raised);
}

Test(loop, a_timer_that_is_set_again_waits_for_its_turn_however_many_others_are_set) {
  Loop loop;
  std::vector<Timer> deadlines;
  for (int i = 0; i < 100; ++i) deadlines.emplace_back(loop, Milliseconds{60'000}, [] {});
  int fired = 0, fired_before_the_task = -1;
  Timer again;
  const std::function<void()> fire = [&] {
    if (++fired == 1) loop.post([&] { fired_before_the_task = fired; });
    again = fired < 50 ? Timer{loop, Milliseconds{0}, [&] { fire(); }} : Timer{};
    if (fired == 50) deadlines.clear();
  };
  again = Timer{loop, Milliseconds{0}, [&] { fire(); }};
  loop.run();
  cr_assert_eq(fired, 50);
  cr_assert_eq(fired_before_the_task, 1);
}
