// The limit: a client that uses OpenSSL itself, straight to the far end.
//
//   tls-bench dial PORT --ca FILE [--resume 1] [--count N] [--threads T --ms T] [--gap US] [--cpu C] [--pids
//   P,...] tls-bench bulk PORT --ca FILE [--direction up|down] [--chunk N] [--total N] [--far P,...] [--pids
//   P,...] tls-bench once PORT [CA]     a program that asks one thing and exits; without CA: the system's
//   store tls-bench runs [--count N] [--cpu C] [--pids P,...] PROGRAM WORD...     how often a second it runs
//   to its end
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <cstdio>
#include <thread>

#include "tests/bench/tls/tls.hh"

namespace bench::tls {
namespace {

/// An open TLS connection; it ends in order, so that its session stays good.
class Client {
 public:
  Client(SSL_CTX* context, const std::string& port, SSL_SESSION* session)
      : socket_{Dialler{Way{.kind = Way::Kind::tcp, .address = port, .request = {}}}.dial()},
        ssl_{on_socket(context, socket_.borrow(), true)} {
    if (session != nullptr) SSL_set_session(ssl_.get(), session);
    if (SSL_do_handshake(ssl_.get()) != 1) die_tls("handshake");
  }
  ~Client() { SSL_shutdown(ssl_.get()); }
  Client(const Client&) = delete;
  void write(const void* bytes, std::size_t size) {
    std::size_t put = 0;
    if (SSL_write_ex(ssl_.get(), bytes, size, &put) != 1) die_tls("write");
  }
  std::size_t read(char* to, std::size_t size) {
    std::size_t got = 0;
    if (SSL_read_ex(ssl_.get(), to, size, &got) != 1) die_tls("read");
    return got;
  }
  /// Whether the far end took the session for a resumed one.
  bool ping() {
    char byte = 'e';
    write(&byte, 1);
    read(&byte, 1);
    return byte == 'R';
  }

 private:
  ipc::Fd socket_;
  Connection ssl_;
};

struct Times {
  std::vector<double> handshake, answer;
  double resumed = 0;
};

struct Plan {
  std::string port, ca;
  bool resume = false;
  std::int64_t count = 0, until = 0, gap_us = 0;
};

void dial_once(const Plan& plan, SSL_CTX* context, Kept& kept, Times& times) {
  const auto start = now_ns();
  Client client{context, plan.port, kept.session.get()};
  const auto shaken = now_ns();
  if (client.ping()) ++times.resumed;
  times.handshake.push_back(static_cast<double>(shaken - start));
  times.answer.push_back(static_cast<double>(now_ns() - start));
}

Times dial_often(const Plan& plan) {
  const auto context = client_context(plan.ca);
  Kept kept;
  if (plan.resume) kept.take_from(context.get());
  Times times;
  const timespec gap{.tv_sec = 0, .tv_nsec = plan.gap_us * 1000};
  for (std::int64_t i = 0; plan.until ? now_ns() < plan.until : i < plan.count; ++i) {
    dial_once(plan, context.get(), kept, times);
    if (plan.gap_us > 0) ::clock_nanosleep(CLOCK_MONOTONIC, 0, &gap, nullptr);
  }
  return times;
}

Times run_threads(const Plan& plan, std::size_t count) {
  std::vector<Times> each(count);
  {
    std::vector<std::jthread> pool;
    for (auto& times : each) pool.emplace_back([&] { times = dial_often(plan); });
  }
  Times all;
  for (const auto& times : each) {
    all.handshake.insert(all.handshake.end(), times.handshake.begin(), times.handshake.end());
    all.answer.insert(all.answer.end(), times.answer.begin(), times.answer.end());
    all.resumed += times.resumed;
  }
  return all;
}

void transfer(Client& client, const Order& order) {
  static std::vector<char> buffer(std::max<std::size_t>(order.chunk, 256 * 1024), 'x');
  client.write(&order, sizeof order);
  for (auto left = order.total; left > 0;) {
    const auto size = std::min<std::uint64_t>(left, order.what == 'd' ? buffer.size() : order.chunk);
    if (order.what == 'u') client.write(buffer.data(), size);
    left -= order.what == 'u' ? size : client.read(buffer.data(), size);
  }
  if (order.what == 'u') client.read(buffer.data(), 1);
}

}  // namespace

int dial_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  Plan plan{.port = arguments.plain.at(0),
            .ca = arguments.text("ca"),
            .resume = arguments.number("resume", 0) == 1,
            .count = 20,
            .gap_us = arguments.number("gap", 0)};
  run_threads(plan, 1);
  plan.count = arguments.number("count", 200);
  const auto ms = arguments.number("ms", 0);
  const CpuClock clock{arguments.pids("pids")};
  const auto cpu = clock.read(true);
  const auto start = now_ns();
  plan.until = ms ? start + ms * 1'000'000 : 0;
  const auto times = run_threads(plan, static_cast<std::size_t>(arguments.number("threads", 1)));
  const auto wall = static_cast<double>(now_ns() - start);
  const auto dials = static_cast<double>(times.answer.size());
  std::printf(
      R"({"dials": %.0f, "cpu_us": %.2f, "fd_us": %.2f, "p50_us": %.2f, "p99_us": %.2f, "rate": %.0f, "resumed": %.3f})"
      "\n",
      dials, static_cast<double>(clock.read(true) - cpu) / dials / 1e3, quantile(times.handshake, 0.5) / 1e3,
      quantile(times.answer, 0.5) / 1e3, quantile(times.answer, 0.99) / 1e3, dials / wall * 1e9,
      times.resumed / dials);
  return 0;
}

int bulk_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  const auto context = client_context(arguments.text("ca"));
  Client client{context.get(), arguments.plain.at(0), nullptr};
  Order order{.what = arguments.text("direction") == "down" ? 'd' : 'u',
              .chunk = static_cast<std::uint32_t>(arguments.number("chunk", 65536)),
              .total = 16 << 20};
  transfer(client, order);
  order.total = static_cast<std::uint64_t>(arguments.number("total", 256 << 20));
  const CpuClock relays{arguments.pids("pids")}, far{arguments.pids("far")};
  const auto start = now_ns(), in_relays = relays.read(false), elsewhere = far.read(true);
  transfer(client, order);
  const auto wall = static_cast<double>(now_ns() - start);
  const auto relay = static_cast<double>(relays.read(false) - in_relays);
  const auto ends = static_cast<double>(far.read(true) - elsewhere);
  const auto bytes = static_cast<double>(order.total);
  std::printf(R"({"gbps": %.3f, "cpu": %.4f, "relay": %.4f})"
              "\n",
              bytes / wall, (relay + ends) / bytes, relay / bytes);
  return 0;
}

int once_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  const auto context = client_context(arguments.plain.size() > 1 ? arguments.plain[1] : "");
  Client{context.get(), arguments.plain.at(0), nullptr}.ping();
  return 0;
}

int runs_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  const auto count = arguments.number("count", 50);
  std::vector<char*> program;
  for (const auto& word : arguments.plain) program.push_back(const_cast<char*>(word.c_str()));
  program.push_back(nullptr);
  const CpuClock clock{arguments.pids("pids")};
  const auto start = now_ns(), cpu = clock.read(false);
  for (std::int64_t i = 0; i < count; ++i) {
    pid_t pid = 0;
    int status = 0;
    if (::posix_spawn(&pid, program[0], nullptr, nullptr, program.data(), environ) != 0) die(program[0]);
    if (must(::waitpid(pid, &status, 0), "waitpid") != pid || status != 0) die("a run failed");
  }
  rusage used{};
  ::getrusage(RUSAGE_CHILDREN, &used);
  const auto own = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
                   static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  const auto runs = static_cast<double>(count);
  std::printf(R"({"rate": %.1f, "cpu_us": %.1f})"
              "\n",
              runs / static_cast<double>(now_ns() - start) * 1e9,
              (own + static_cast<double>(clock.read(false) - cpu) / 1e3) / runs);
  return 0;
}

}  // namespace bench::tls
