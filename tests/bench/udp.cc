// Datagrams: an echoing far end in three guises, echoes in flight, a flood, and many peers on one port.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "ipc/address.hh"
#include "ipc/service.hh"
#include "tests/bench/bench.hh"

namespace bench {
namespace {
constexpr std::size_t most = 65'536;
constexpr char counted = 'F', question = 'Q';  // first bytes: count it; say how many there were; else echo
constexpr std::string_view bye = "B";          // the peer is gone

int wait_readable(int fd, int ms) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, ms);
}

/// How many datagrams to read from each of `ready` sockets: a read that finds nothing costs as much as one
/// that does, and few sockets have many datagrams.
int share(int ready) { return std::max(1, 64 / std::max(1, ready)); }

/// Echoes on every socket it is given.
class Echo {
 public:
  void add(ipc::Fd socket) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = socket.borrow()}};
    must(::epoll_ctl(epoll_.borrow(), EPOLL_CTL_ADD, socket.borrow(), &event), "epoll_ctl");
    sockets_[socket.borrow()] = std::move(socket);
  }
  void answer(int socket, std::string_view bytes, const sockaddr* to, socklen_t size) {
    if (bytes.starts_with(counted)) return void(++count_);
    std::string text{bytes};
    if (bytes.starts_with(question)) text = std::to_string(std::exchange(count_, 0));
    ::sendto(socket, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL, to, size);
  }
  void turn(int ms) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.borrow(), events.data(), events.size(), ms);
    for (int i = 0; i < count; ++i) echo(events[static_cast<std::size_t>(i)].data.fd, share(count));
  }
  int borrow() const { return epoll_.borrow(); }

 private:
  void echo(int socket, int most_datagrams) {
    static std::array<char, most> bytes;
    for (int i = 0; i < most_datagrams; ++i) {
      sockaddr_storage from;
      socklen_t size = sizeof from;
      const auto got = ::recvfrom(socket, bytes.data(), bytes.size(), MSG_DONTWAIT,
                                  reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) return;
      const std::string_view said{bytes.data(), static_cast<std::size_t>(got)};
      if (apart_ && !take_apart(socket, said, from, size)) return;
      const bool is_connected = size == 0 || sockets_.at(socket).borrow() != unconnected_;
      if (!is_connected && port_) add_connected(from, size);
      if (said == bye && is_connected) return void(sockets_.erase(socket));
      if (said != bye)
        answer(socket, said, is_connected ? nullptr : reinterpret_cast<sockaddr*>(&from),
               is_connected ? 0 : size);
    }
  }

  /// A socket for whoever speaks at its address, until he is gone. False: he is.
  bool take_apart(int socket, std::string_view said, sockaddr_storage& peer, socklen_t size) {
    const bool is_gone = said == bye;
    if (!is_gone && taken_.contains(socket)) return true;
    taken_.insert(socket);
    if (is_gone) taken_.erase(socket);
    if (is_gone) peer.ss_family = AF_UNSPEC;  // ends the connection, not the bind
    ::connect(socket, reinterpret_cast<const sockaddr*>(&peer), size);
    return !is_gone;
  }

  void add_connected(const sockaddr_storage& peer, socklen_t size) {
    ipc::Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    const int on = 1;
    ::setsockopt(socket.borrow(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    must(::bind(socket.borrow(), reinterpret_cast<const sockaddr*>(&*port_), sizeof *port_), "bind");
    must(::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&peer), size), "connect");
    add(std::move(socket));
  }

 public:
  int unconnected_ = -1;
  std::optional<sockaddr_in> port_;  ///< where peers get sockets of their own
  bool apart_ = false;               ///< each socket is for one peer and has an address of its own

 private:
  ipc::Fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::map<int, ipc::Fd> sockets_;
  std::set<int> taken_;
  std::uint64_t count_ = 0;
};

void say(std::string_view text) {
  std::printf("%.*s\n", static_cast<int>(text.size()), text.data());
  std::fflush(stdout);
}

/// With `floor`, every new peer gets a connected socket on the port, as udpd makes them, in a few lines and
/// without any care.
[[noreturn]] void serve_plain(Echo& echo, bool floor) {
  ipc::Fd socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  const int on = 1;
  if (floor) ::setsockopt(socket.borrow(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  sockaddr_in at{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof at;
  must(::bind(socket.borrow(), reinterpret_cast<sockaddr*>(&at), size), "bind");
  ::getsockname(socket.borrow(), reinterpret_cast<sockaddr*>(&at), &size);
  echo.unconnected_ = socket.borrow();
  if (floor) echo.port_ = at;
  echo.add(std::move(socket));
  say(std::to_string(ntohs(at.sin_port)));
  for (;;) echo.turn(-1);
}

ipc::Fd bind_udp(std::uint32_t address, std::uint16_t port) {
  ipc::Fd socket{must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
  const sockaddr_in at{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(address)}};
  must(::bind(socket.borrow(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "bind");
  return socket;
}

/// As many sockets on one side as on the other, and nothing that they share: what is left of a rate then is
/// what 1,000 sockets cost whoever reads them.
[[noreturn]] void serve_apart(Echo& echo, std::uint32_t count) {
  sockaddr_in at;
  socklen_t size = sizeof at;
  // Only a port that was asked for stays a socket's when its connection ends.
  ::getsockname(bind_udp(first_apart, 0).borrow(), reinterpret_cast<sockaddr*>(&at), &size);
  echo.apart_ = true;
  for (std::uint32_t i = 0; i < count; ++i) echo.add(bind_udp(first_apart + i, ntohs(at.sin_port)));
  say(std::to_string(ntohs(at.sin_port)));
  for (;;) echo.turn(-1);
}

/// What comes in at a UNIX socket, as a service that bound it itself.
[[noreturn]] void serve_unguarded(Echo& echo, const std::string& path) {
  const auto listener = listen_unix(path, SOCK_SEQPACKET);
  say("ready");
  for (;;) {
    if (wait_readable(listener.borrow(), 0) > 0)
      echo.add(ipc::Fd{::accept4(listener.borrow(), nullptr, nullptr, SOCK_CLOEXEC)});
    echo.turn(1);
  }
}

[[noreturn]] void serve_registered(Echo& echo, const Arguments& arguments) {
  auto service = ipc::Service::serve(arguments.text("service"), {.rundir = arguments.text("rundir")});
  if (!service) die(service.error().text);
  say("ready");
  for (;;) {
    std::array<pollfd, 2> wanted{{{service->pollable(), POLLIN, 0}, {echo.borrow(), POLLIN, 0}}};
    ::poll(wanted.data(), wanted.size(), -1);
    if (wanted[1].revents != 0) echo.turn(0);
    if (wanted[0].revents == 0) continue;
    auto caller = service->accept(ipc::Milliseconds{0});
    if (!caller) continue;
    for (const auto& first : caller->first) echo.answer(caller->fd.borrow(), first, nullptr, 0);
    echo.add(std::move(caller->fd));
  }
}

struct Client {
  std::vector<ipc::Fd> sockets;
  std::string bytes;
  std::array<char, most> room;

  /// Echoes in `ms`, `in_flight` on each socket; what is lost is sent again after 20 ms of silence.
  double echo(std::int64_t ms, int in_flight) {
    const auto start = now_ns(), end = start + ms * 1'000'000;
    std::uint64_t answered = 0;
    const ipc::Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    for (const auto& socket : sockets) {
      epoll_event event{.events = EPOLLIN, .data = {.fd = socket.borrow()}};
      must(::epoll_ctl(epoll.borrow(), EPOLL_CTL_ADD, socket.borrow(), &event), "epoll_ctl");
    }
    const auto fill = [&] {
      for (const auto& socket : sockets)
        for (int i = 0; i < in_flight; ++i) put(socket.borrow());
    };
    fill();
    while (now_ns() < end) {
      std::array<epoll_event, 64> events;
      const int count = ::epoll_wait(epoll.borrow(), events.data(), events.size(), 20);
      if (count == 0) fill();
      for (int i = 0; i < count; ++i)
        answered += drain(events[static_cast<std::size_t>(i)].data.fd, share(count));
    }
    return static_cast<double>(answered) * 1e9 / static_cast<double>(now_ns() - start);
  }

  /// UDP has no end: the far side is told.
  void leave() {
    for (const auto& socket : sockets) ::send(socket.borrow(), bye.data(), bye.size(), MSG_DONTWAIT);
  }

  void put(int socket) { ::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT); }

  std::uint64_t drain(int socket, int most_datagrams) {
    int count = 0;
    for (; count < most_datagrams && ::recv(socket, room.data(), room.size(), MSG_DONTWAIT) >= 0; ++count)
      put(socket);
    return static_cast<std::uint64_t>(count);
  }

  /// Datagrams that arrived at the far end, a second.
  double flood(std::int64_t ms) {
    const int socket = sockets.front().borrow();
    ask(socket);
    bytes[0] = counted;
    const auto start = now_ns(), end = start + ms * 1'000'000;
    while (now_ns() < end)
      for (int i = 0; i < 64; ++i) put(socket);
    const auto took = static_cast<double>(now_ns() - start);
    return static_cast<double>(ask(socket)) * 1e9 / took;
  }

  /// New peers: all ask, then all are answered.
  void add(std::vector<ipc::Fd> fresh) {
    for (const auto& socket : fresh) ::send(socket.borrow(), &question, 1, MSG_DONTWAIT);
    for (auto& socket : fresh) {
      if (wait_readable(socket.borrow(), 50) <= 0) ask(socket.borrow());
      ::recv(socket.borrow(), room.data(), room.size(), MSG_DONTWAIT);
      sockets.push_back(std::move(socket));
    }
  }

  std::int64_t ask(int socket) {
    for (int i = 0; i < 100; ++i) {
      ::send(socket, &question, 1, MSG_DONTWAIT);
      if (wait_readable(socket, 100) <= 0) continue;
      const auto got = ::recv(socket, room.data(), room.size() - 1, MSG_DONTWAIT);
      if (got <= 0 || got > 20) continue;  // an ICMP error, or a late echo
      return std::strtoll(std::string{room.data(), static_cast<std::size_t>(got)}.c_str(), nullptr, 10);
    }
    die("the far end does not answer");
  }
};
}  // namespace

// bench udpfar [--seqpacket PATH | --rundir DIR --service NAME | --connected 1 | --apart COUNT]
int udpfar_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  Echo echo;
  if (const auto count = arguments.number("apart", 0); count > 0)
    serve_apart(echo, static_cast<std::uint32_t>(count));
  if (const auto path = arguments.text("seqpacket"); !path.empty()) serve_unguarded(echo, path);
  if (!arguments.text("service").empty()) serve_registered(echo, arguments);
  serve_plain(echo, arguments.number("connected", 0) != 0);
}

// bench udp WAY... [--size N] [--flight N] [--peers N] [--together N] [--ms N] [--flood 1] [--pids P,...]:
// set-up is the CPU time of the processes named, for each peer, from the dial to the first answer; `together`
// peers come at a time.
int udp_main(const std::vector<std::string>& words) {
  const Arguments arguments{words};
  Dialler dialler{way_from(arguments.plain)};
  static Client client;
  client.bytes.assign(static_cast<std::size_t>(arguments.number("size", 64)), 'x');
  const auto peers = arguments.number("peers", 1), ms = arguments.number("ms", 500);
  const auto together = arguments.number("together", 1);
  const CpuClock daemons{arguments.pids("pids")};
  const auto before = daemons.read(false);
  for (std::int64_t left = peers; left > 0; left -= together)
    client.add(dialler.dial(static_cast<std::size_t>(std::min(left, together))));
  const auto set_up = static_cast<double>(daemons.read(false) - before) / 1e3 / static_cast<double>(peers);
  const auto flight = static_cast<int>(arguments.number("flight", 32));
  const auto at_rest = daemons.read(false);
  const double rate = arguments.number("flood", 0) != 0 ? client.flood(ms) : client.echo(ms, flight);
  std::printf(R"({"rate": %.0f, "setup_us": %.2f, "daemon_ms": %.2f})"
              "\n",
              rate, set_up, static_cast<double>(daemons.read(false) - at_rest) / 1e6);
  client.leave();
  return 0;
}
}  // namespace bench
