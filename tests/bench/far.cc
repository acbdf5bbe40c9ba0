// The far end of every connection measured: echoes, swallows or produces bytes as the connection's first
// bytes order.
//
//   bench far [--unix PATH]     prints the TCP port (or 0 with --unix), then serves, a blocking thread each
//   bench far --hold 1          accepts and keeps connections, for the memory of idle ones
#include <sys/socket.h>

#include <cstdio>
#include <cstring>
#include <thread>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

constexpr std::size_t buffer_size = 256 * 1024;
constexpr int threads = 48;  // more than all connections of a run, a warm pool's spares included

void echo(int socket) {
  char buffer[4096] = {'e'};
  for (ssize_t size = 1; size > 0; size = ::recv(socket, buffer, sizeof buffer, 0))
    if (::send(socket, buffer, static_cast<std::size_t>(size), MSG_NOSIGNAL) != size) return;
}

void upload(int socket, const Order& order) {
  thread_local std::vector<char> buffer(buffer_size);
  for (std::uint64_t left = order.total; left > 0;) {
    const auto got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) return;
    left -= std::min<std::uint64_t>(left, static_cast<std::uint64_t>(got));
  }
  ::send(socket, "k", 1, MSG_NOSIGNAL);
}

void download(int socket, const Order& order) {
  thread_local std::vector<char> buffer;
  buffer.resize(std::max<std::size_t>(buffer.size(), order.chunk), 'x');
  for (std::uint64_t left = order.total; left > 0;) {
    const auto size = std::min<std::uint64_t>(left, order.chunk);
    write_all(socket, buffer.data(), size);
    left -= size;
  }
}

void serve(int socket) {
  Order order;
  if (::recv(socket, &order.what, 1, 0) != 1) return;
  if (order.what == 'e') return echo(socket);
  for (;;) {  // orders follow one another on a connection
    read_all(socket, order.unused, sizeof order - 1);
    if (order.chunk == 0 || order.chunk > (64U << 20)) return;
    order.what == 'u' ? upload(socket, order) : download(socket, order);
    if (::recv(socket, &order.what, 1, 0) != 1) return;
  }
}

void accept_and_serve(int listener) {
  for (;;) {
    const ipc::Fd connection{must(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept")};
    serve(connection.borrow());
  }
}

[[noreturn]] void hold(int listener) {
  for (std::vector<ipc::Fd> held;;)
    held.emplace_back(must(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

}  // namespace

int far_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  std::uint16_t port = 0;
  const auto path = arguments.text("unix");
  const auto listener = path.empty() ? listen_tcp(&port) : listen_unix(path, SOCK_STREAM);
  std::printf("%u\n", port);
  std::fflush(stdout);
  if (arguments.number("hold", 0)) hold(listener.borrow());
  std::vector<std::jthread> pool;
  for (int i = 0; i < threads; ++i) pool.emplace_back(accept_and_serve, listener.borrow());
  return 0;
}

}  // namespace bench
