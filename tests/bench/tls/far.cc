// The far end of TLS connections, in OpenSSL's blocking calls: echoes, swallows or produces bytes as the
// first bytes order (bench::Order). An echo's bytes say whether the session was resumed: 'R', or 'F' for a
// full handshake.
//
//   tls-bench far --pem FILE            prints the port, then serves, a blocking thread each
//   tls-bench far --pem FILE --hold 1   answers one byte and keeps the connection, for the memory of idle
//   ones
#include <openssl/err.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

#include "tests/bench/tls/tls.hh"

namespace bench::tls {
namespace {

constexpr int threads = 48;
constexpr std::size_t buffer_size = 256 * 1024;

bool read_exactly(SSL* ssl, void* bytes, std::size_t size) {
  auto* to = static_cast<char*>(bytes);
  for (std::size_t got = 0; size > 0; to += got, size -= got)
    if (SSL_read_ex(ssl, to, size, &got) != 1) return false;
  return true;
}

bool write_exactly(SSL* ssl, const void* bytes, std::size_t size) {
  std::size_t put = 0;
  return SSL_write_ex(ssl, bytes, size, &put) == 1;
}

bool echo(SSL* ssl) {
  const char answer = SSL_session_reused(ssl) == 1 ? 'R' : 'F';
  return write_exactly(ssl, &answer, 1);
}

bool upload(SSL* ssl, const Order& order) {
  thread_local std::vector<char> buffer(buffer_size);
  std::size_t got = 0;
  for (auto left = order.total; left > 0; left -= std::min<std::uint64_t>(left, got))
    if (SSL_read_ex(ssl, buffer.data(), buffer.size(), &got) != 1) return false;
  return write_exactly(ssl, "k", 1);
}

bool download(SSL* ssl, const Order& order) {
  thread_local std::vector<char> buffer;
  buffer.resize(std::max<std::size_t>(buffer.size(), order.chunk), 'x');
  for (auto left = order.total; left > 0;) {
    const auto size = std::min<std::uint64_t>(left, order.chunk);
    if (!write_exactly(ssl, buffer.data(), size)) return false;
    left -= size;
  }
  return true;
}

/// Until the client ends: bytes to echo, or orders.
void serve(SSL* ssl) {
  Order order;
  bool goes_on = true;
  while (goes_on && read_exactly(ssl, &order.what, 1)) {
    if (order.what == 'e') {
      goes_on = echo(ssl);
      continue;
    }
    if (!read_exactly(ssl, order.unused, sizeof order - 1) || order.chunk == 0 || order.chunk > (64U << 20))
      return;
    goes_on = order.what == 'u' ? upload(ssl, order) : download(ssl, order);
  }
  SSL_shutdown(ssl);
}

void accept_and_serve(int listener, SSL_CTX* context) {
  for (;;) {
    const ipc::Fd socket{must(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept")};
    const auto ssl = on_socket(context, socket.borrow(), false);
    if (SSL_do_handshake(ssl.get()) == 1) serve(ssl.get());
    ERR_clear_error();
  }
}

void hold(int listener, SSL_CTX* context) {
  static std::vector<std::pair<ipc::Fd, Connection>> held;
  static std::mutex guard;
  for (;;) {
    ipc::Fd socket{must(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept")};
    auto ssl = on_socket(context, socket.borrow(), false);
    char byte = 0;
    if (SSL_do_handshake(ssl.get()) != 1 || !read_exactly(ssl.get(), &byte, 1) || !echo(ssl.get())) continue;
    const std::lock_guard lock{guard};
    held.emplace_back(std::move(socket), std::move(ssl));
  }
}

}  // namespace

int far_main(const std::vector<std::string>& words) {
  std::signal(SIGPIPE, SIG_IGN);
  const Arguments arguments{words};
  const auto context = server_context(arguments.text("pem"));
  std::uint16_t port = 0;
  const auto listener = listen_tcp(&port, false);
  std::printf("%u\n", port);
  std::fflush(stdout);
  std::vector<std::jthread> pool;
  const auto run = arguments.number("hold", 0) ? hold : accept_and_serve;
  for (int i = 0; i < threads; ++i) pool.emplace_back(run, listener.borrow(), context.get());
  return 0;
}

}  // namespace bench::tls
