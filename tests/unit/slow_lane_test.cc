// What can wait is done one after the other, each user in turn, and leaves the loop to everybody else.
#include <criterion/criterion.h>

#include <string>

#include "plumberd/slow_lane.hh"

using namespace plumberd;

namespace {
void take_time(std::uint64_t ms) {
  const auto until = uv_hrtime() + ms * 1'000'000;
  while (uv_hrtime() < until) continue;
}
}  // namespace

Test(slow_lane, does_a_first_task_at_once) {
  ipc::Loop loop;
  SlowLane lane{loop};
  bool done = false;
  lane.run(1, [&] { done = true; });
  cr_assert(done);
}

Test(slow_lane, takes_users_in_turn_however_many_tasks_they_have) {
  ipc::Loop loop;
  SlowLane lane{loop};
  std::string order;
  for (int i = 0; i < 4; ++i) lane.run(1, [&] { order += 'a'; });
  for (int i = 0; i < 2; ++i) lane.run(2, [&] { order += 'b'; });
  lane.run(3, [&] { order += 'c'; });
  loop.run();
  cr_assert_eq(order, "aabcaba", "%s", order.c_str());
}

Test(slow_lane, rests_in_proportion_to_the_work_done) {
  ipc::Loop loop;
  SlowLane lane{loop};
  const auto began = uv_hrtime();
  for (int i = 0; i < 3; ++i) lane.run(1, [] { take_time(10); });
  loop.run();
  cr_assert_geq((uv_hrtime() - began) / 1'000'000, 3 * 10 + 2 * 38);
}

Test(slow_lane, task_of_a_task_waits_for_its_turn) {
  ipc::Loop loop;
  SlowLane lane{loop};
  std::string order;
  lane.run(1, [&] {
    lane.run(1, [&] { order += 'b'; });
    order += 'a';
  });
  cr_assert_eq(order, "a");
  loop.run();
  cr_assert_eq(order, "ab");
}
