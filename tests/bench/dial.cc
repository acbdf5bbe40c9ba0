// The dial: how much CPU time and how long it takes from asking to an answer of the far end.
//
//   bench dial WAY... [--count N | --seconds-ms T] [--threads T] [--gap US] [--every US]
//     [--cpu C] [--pids P,...]
// prints one JSON line: dials, cpu_us (all processes, per dial), fd_us (p50 until there is a socket), p50_us
// p99_us, p999_us and max_us (until the far end answered), rate (dials per second), resumed (the part of them
// that a TLS far end said to have resumed a session).
#include <time.h>

#include <atomic>
#include <cstdio>
#include <thread>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

struct Times {
  std::vector<double> socket;  ///< ns until the socket was there
  std::vector<double> answer;  ///< ns until the far end answered
  double resumed = 0;          ///< how often it answered that it resumed a session
};

struct Plan {
  std::int64_t count;   ///< dials of each thread, or
  std::int64_t until;   ///< go on until this time, if not 0
  std::int64_t gap_us;  ///< pause after each dial
  /// Each dial of a thread is due so long after the one before it and timed from then, begun late or not:
  /// what waits behind a stalled dial counts.
  std::int64_t every_us = 0;
};

void pause_us(std::int64_t us) {
  const timespec gap{.tv_sec = us / 1'000'000, .tv_nsec = us % 1'000'000 * 1000};
  if (us > 0) ::clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, nullptr);
}

void wait_until(std::int64_t ns) {
  const timespec when{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
  ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, nullptr);
}

/// `start`: when it was due.
void dial_once(Dialler& dialler, Times& times, std::int64_t start) {
  const auto connection = dialler.dial();
  const auto connected = now_ns();
  if (ping(connection.borrow()) == 'R') ++times.resumed;
  times.socket.push_back(static_cast<double>(connected - start));
  times.answer.push_back(static_cast<double>(now_ns() - start));
}

Times dial_often(Dialler& dialler, const Plan& plan) {
  Times times;
  const auto began = now_ns();
  for (std::int64_t i = 0; plan.until ? now_ns() < plan.until : i < plan.count; ++i) {
    const auto due = plan.every_us > 0 ? began + i * plan.every_us * 1000 : now_ns();
    if (plan.every_us > 0) wait_until(due);
    dial_once(dialler, times, due);
    pause_us(plan.gap_us);
  }
  return times;
}

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

Times run_threads(const Way& way, const Plan& plan, std::size_t count) {
  std::vector<Times> each(count);
  {
    std::vector<std::jthread> pool;
    for (auto& times : each)
      pool.emplace_back([&way, &plan, &times] {
        Dialler dialler{way};
        times = dial_often(dialler, plan);
      });
  }
  Times all;
  for (const auto& times : each) {
    append(all.socket, times.socket);
    append(all.answer, times.answer);
    all.resumed += times.resumed;
  }
  return all;
}

}  // namespace

int dial_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  const auto way = way_from(arguments.plain);
  const auto ms = arguments.number("ms", 0);
  const auto threads = static_cast<std::size_t>(arguments.number("threads", 1));
  Plan plan{.count = arguments.number("warmup", 50), .until = 0, .gap_us = arguments.number("gap", 0)};
  run_threads(way, plan, 1);  // page faults, helpers started on first use and cold caches are not the dial's
  plan.count = arguments.number("count", 1000);
  plan.every_us = arguments.number("every", 0);
  const CpuClock clock{arguments.pids("pids")};
  const auto cpu = clock.read(true);
  const auto start = now_ns();
  plan.until = ms ? start + ms * 1'000'000 : 0;
  const auto times = run_threads(way, plan, threads);
  const auto wall = static_cast<double>(now_ns() - start);
  const auto used = static_cast<double>(clock.read(true) - cpu);
  const auto dials = static_cast<double>(times.answer.size());
  std::printf(
      R"({"dials": %.0f, "cpu_us": %.2f, "fd_us": %.2f, "p50_us": %.2f, "p99_us": %.2f, "p999_us": %.2f, "max_us": %.2f, "rate": %.0f, "resumed": %.3f})"
      "\n",
      dials, used / dials / 1e3, quantile(times.socket, 0.5) / 1e3, quantile(times.answer, 0.5) / 1e3,
      quantile(times.answer, 0.99) / 1e3, quantile(times.answer, 0.999) / 1e3,
      quantile(times.answer, 1) / 1e3, dials / wall * 1e9, times.resumed / dials);
  return 0;
}

}  // namespace bench
