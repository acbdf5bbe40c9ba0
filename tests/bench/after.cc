// What a connection costs once it is there: moving bytes, answering, lying idle.
#include <cstdio>
#include <functional>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

struct Flow {
  double gb_per_s = 0;
  double cpu_s_per_gb = 0;     ///< all processes
  double daemon_s_per_gb = 0;  ///< those named by --pids alone
};

/// Carries out `order` on the client's side of `socket`.
void transfer(int socket, const Order& order) {
  static std::vector<char> buffer(std::max<std::size_t>(order.chunk, 256 * 1024), 'x');
  write_all(socket, &order, sizeof order);
  if (order.what == 'd') {
    for (std::uint64_t left = order.total; left > 0;) {
      const auto size = std::min<std::uint64_t>(left, buffer.size());
      read_all(socket, buffer.data(), size);
      left -= size;
    }
    return;
  }
  for (std::uint64_t left = order.total; left > 0;) {
    const auto size = std::min<std::uint64_t>(left, order.chunk);
    write_all(socket, buffer.data(), size);
    left -= size;
  }
  read_all(socket, buffer.data(), 1);
}

Flow measure(int socket, const Order& order, const CpuClock& daemons, const CpuClock& far) {
  const auto start = now_ns();
  const auto in_daemons = daemons.read(false);
  const auto elsewhere = far.read(true);
  transfer(socket, order);
  const auto wall = static_cast<double>(now_ns() - start);
  const auto relay = static_cast<double>(daemons.read(false) - in_daemons);
  const auto ends = static_cast<double>(far.read(true) - elsewhere);
  const auto gb = static_cast<double>(order.total) / 1e9;
  return {gb / wall * 1e9, (relay + ends) / 1e9 / gb, relay / 1e9 / gb};
}

Order order_from(const Arguments& arguments) {
  return {.what = arguments.text("direction") == "down" ? 'd' : 'u',
          .chunk = static_cast<std::uint32_t>(arguments.number("chunk", 65536)),
          .total = static_cast<std::uint64_t>(arguments.number("total", 256 << 20))};
}

/// ns of one round trip, mean over `count`.
double ping_ns(int socket, int count) {
  const auto start = now_ns();
  for (int i = 0; i < count; ++i) ping(socket);
  return static_cast<double>(now_ns() - start) / count;
}

}  // namespace

// bench bulk WAY... [--direction up|down] [--chunk N] [--total N] [--cpu C] [--far P,...] [--pids P,...]
int bulk_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  Dialler dialler{way_from(arguments.plain)};
  const auto connection = dialler.dial();
  auto order = order_from(arguments);
  const auto total = std::exchange(order.total, 16 << 20);
  transfer(connection.borrow(), order);  // windows and buffers grow; a forking relay's child is there
  order.total = total;
  const CpuClock daemons{arguments.pids("pids")};
  const CpuClock far{arguments.pids("far")};
  const auto flow = measure(connection.borrow(), order, daemons, far);
  std::printf(R"({"gbps": %.3f, "cpu": %.4f, "relay": %.4f})"
              "\n",
              flow.gb_per_s, flow.cpu_s_per_gb, flow.daemon_s_per_gb);
  return 0;
}

// bench after PORT WAY... : a connection made by WAY against a direct one to PORT, in turns, within one
// process.
int after_main(const std::vector<std::string>& words) {
  Arguments arguments{words};
  pin(static_cast<int>(arguments.number("cpu", -1)));
  Dialler direct{Way{.kind = Way::Kind::tcp, .address = arguments.plain.at(0), .request = {}}};
  arguments.plain.erase(arguments.plain.begin());
  Dialler handed{way_from(arguments.plain)};
  const auto rounds = arguments.number("rounds", 21);
  const auto count = static_cast<int>(arguments.number("count", 2000));
  const CpuClock none{{}};
  const CpuClock far{arguments.pids("far")};
  auto order = order_from(arguments);
  std::vector<double> ping_ratio, direct_us, cpu_ratio, speed_ratio;
  const auto a = direct.dial(), b = handed.dial();
  const auto bulk_a = direct.dial(), bulk_b = handed.dial();
  ping_ns(a.borrow(), count);
  ping_ns(b.borrow(), count);
  const CpuClock daemons{arguments.pids("pids")};
  const auto before = daemons.read(false);
  for (std::int64_t i = 0; i < rounds; ++i) {
    const auto plain = ping_ns(a.borrow(), count);
    ping_ratio.push_back(ping_ns(b.borrow(), count) / plain);
    direct_us.push_back(plain / 1e3);
  }
  for (std::int64_t i = 0; i < rounds && order.total > 0; ++i) {
    const auto plain = measure(bulk_a.borrow(), order, none, far);
    const auto through = measure(bulk_b.borrow(), order, none, far);
    cpu_ratio.push_back(through.cpu_s_per_gb / plain.cpu_s_per_gb);
    speed_ratio.push_back(through.gb_per_s / plain.gb_per_s);
  }
  std::printf(
      R"({"ping_us": %.2f, "ping_ratio": %.3f, "cpu_ratio": %.3f, "speed_ratio": %.3f, "daemon_ns": %lld})"
      "\n",
      quantile(direct_us, 0.5), quantile(ping_ratio, 0.5), quantile(cpu_ratio, 0.5),
      quantile(speed_ratio, 0.5), static_cast<long long>(daemons.read(false) - before));
  return 0;
}

// bench idle WAY... [--count N] [--ping 1]: opens N connections, prints "ready", keeps them until its input
// ends.
int idle_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  Dialler dialler{way_from(arguments.plain)};
  std::vector<ipc::Fd> held;
  const bool pings = arguments.number("ping", 0) == 1;
  for (std::int64_t i = 0; i < arguments.number("count", 9000); ++i) {
    held.push_back(dialler.dial());
    if (pings) ping(held.back().borrow());
  }
  std::puts("ready");
  std::fflush(stdout);
  while (std::getchar() != EOF) {}
  return 0;
}

}  // namespace bench
