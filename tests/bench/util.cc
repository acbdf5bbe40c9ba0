// Clocks, sockets and arguments of the benchmark kit.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/bench/bench.hh"

namespace bench {
namespace {

void add_with_descendants(pid_t pid, std::vector<pid_t>& all) {
  all.push_back(pid);
  std::error_code gone;
  const auto tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, gone)) {
    std::ifstream children{task.path() / "children"};
    for (pid_t child = 0; children >> child;) add_with_descendants(child, all);
  }
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die("path too long: " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

ipc::Fd connect_unix(const std::string& path, int type) {
  ipc::Fd fd{must(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "socket")};
  const auto address = unix_address(path);
  must(::connect(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), path);
  return fd;
}

ipc::Fd connect_tcp(const std::string& port) {
  ipc::Fd fd{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port.c_str())));
  must(::connect(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
       "connect " + port);
  return fd;
}

ipc::Fd passed_fd(msghdr& message) {
  const auto* header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return ipc::Fd{fd};
}

}  // namespace

void die(std::string_view what) {
  std::fprintf(stderr, "bench: %.*s: %s\n", static_cast<int>(what.size()), what.data(), std::strerror(errno));
  std::exit(1);
}

std::int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  must(::sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
}

double quantile(std::vector<double> values, double at) {
  if (values.empty()) return 0;
  const auto place = static_cast<std::size_t>(at * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(place), values.end());
  return values[place];
}

CpuClock::CpuClock(const std::vector<pid_t>& roots) {
  std::vector<pid_t> all;
  for (const auto root : roots) add_with_descendants(root, all);
  for (const auto pid : all) {
    clockid_t clock{};
    if (::clock_getcpuclockid(pid, &clock) == 0) clocks_.push_back(clock);
  }
}

std::int64_t CpuClock::read(bool self) const {
  std::int64_t sum = 0;
  timespec time{};
  for (const auto clock : clocks_)
    if (::clock_gettime(clock, &time) == 0) sum += time.tv_sec * 1'000'000'000LL + time.tv_nsec;
  if (self && ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0)
    sum += time.tv_sec * 1'000'000'000LL + time.tv_nsec;
  return sum;
}

ipc::Fd connect_udp(const std::string& port, std::uint32_t address = INADDR_LOOPBACK) {
  ipc::Fd socket{must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
  const sockaddr_in at{.sin_family = AF_INET,
                       .sin_port = htons(static_cast<std::uint16_t>(std::stoi(port))),
                       .sin_addr = {htonl(address)}};
  must(::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "connect");
  return socket;
}

void send_fd(int socket, const void* bytes, std::size_t size, int fd) {
  iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  must(::sendmsg(socket, &message, MSG_NOSIGNAL), "sendmsg");
}

Way way_from(const std::vector<std::string>& words) {
  if (words.size() < 2) die("usage: tcp PORT | unix PATH | session PATH REQUEST | kept PATH REQUEST");
  Way way{.kind = Way::Kind::tcp, .address = words[1], .request = words.size() > 2 ? words[2] : ""};
  if (words[0] == "unix") way.kind = Way::Kind::unix;
  if (words[0] == "session") way.kind = Way::Kind::session;
  if (words[0] == "kept") way.kind = Way::Kind::kept;
  if (words[0] == "apart") way.kind = Way::Kind::apart;
  if (words[0] == "udp") way.kind = Way::Kind::udp;
  return way;
}

Dialler::Dialler(Way way) : way_{std::move(way)} {
  if (way_.kind == Way::Kind::kept) session_ = connect_unix(way_.address, SOCK_SEQPACKET);
}

ipc::Fd Dialler::dial() {
  switch (way_.kind) {
    case Way::Kind::tcp:
      return connect_tcp(way_.address);
    case Way::Kind::unix:
      return connect_unix(way_.address, SOCK_STREAM);
    case Way::Kind::session:
      return ask(connect_unix(way_.address, SOCK_SEQPACKET).borrow());
    case Way::Kind::udp:
      return connect_udp(way_.address);
    case Way::Kind::apart:
      return connect_udp(way_.address, first_apart + dialled_++);
    case Way::Kind::kept:
      return ask(session_.borrow());
  }
  std::abort();
}

std::vector<ipc::Fd> Dialler::dial(std::size_t count) {
  std::vector<ipc::Fd> sockets;
  if (way_.kind == Way::Kind::kept)
    for (std::size_t i = 0; i < count; ++i) put(session_.borrow());
  for (std::size_t i = 0; i < count; ++i)
    sockets.push_back(way_.kind == Way::Kind::kept ? take(session_.borrow()) : dial());
  return sockets;
}

ipc::Fd Dialler::ask(int session) {
  put(session);
  return take(session);
}

void Dialler::put(int session) {
  constexpr std::string_view first = R"("id": 1,)";
  auto text = way_.request;
  if (const auto at = text.find(first); at != std::string::npos)
    text.replace(at, first.size(), R"("id": )" + std::to_string(next_id_++) + ',');
  must(::send(session, text.data(), text.size(), MSG_NOSIGNAL), "send to " + way_.address);
}

ipc::Fd Dialler::take(int session) {
  char text[4096];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{.iov_base = text, .iov_len = sizeof text};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto size = must(::recvmsg(session, &message, MSG_CMSG_CLOEXEC), "recvmsg from " + way_.address);
  auto fd = passed_fd(message);
  if (!fd) die("no socket in the answer: " + std::string{text, static_cast<std::size_t>(size)});
  return fd;
}

ipc::Fd listen_tcp(std::uint16_t* port, bool resets) {
  ipc::Fd fd{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
  const linger reset{.l_onoff = 1, .l_linger = 0};  // inherited by accepted sockets
  if (resets) must(::setsockopt(fd.borrow(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  must(::bind(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), size), "bind");
  must(::listen(fd.borrow(), 4096), "listen");
  must(::getsockname(fd.borrow(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  *port = ntohs(address.sin_port);
  return fd;
}

ipc::Fd listen_unix(const std::string& path, int type) {
  ipc::Fd fd{must(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "socket")};
  ::unlink(path.c_str());
  const auto address = unix_address(path);
  must(::bind(fd.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), path);
  must(::listen(fd.borrow(), 4096), "listen");
  return fd;
}

char ping(int socket) {
  char byte = 'e';
  if (::send(socket, &byte, 1, MSG_NOSIGNAL) != 1) die("send");
  if (const auto size = ::recv(socket, &byte, 1, 0); size != 1) die(size == 0 ? "far end closed" : "recv");
  return byte;
}

void write_all(int socket, const void* bytes, std::size_t size) {
  const auto* from = static_cast<const char*>(bytes);
  while (size > 0) {
    const auto sent = static_cast<std::size_t>(must(::send(socket, from, size, MSG_NOSIGNAL), "send"));
    from += sent;
    size -= sent;
  }
}

void read_all(int socket, void* bytes, std::size_t size) {
  auto* to = static_cast<char*>(bytes);
  while (size > 0) {
    const auto got = static_cast<std::size_t>(must(::recv(socket, to, size, 0), "recv"));
    if (got == 0) die("far end closed");
    to += got;
    size -= got;
  }
}

Arguments::Arguments(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!words[i].starts_with("--")) {
      plain.push_back(words[i]);
    } else if (i + 1 < words.size()) {
      options.emplace_back(words[i].substr(2), words[i + 1]);
      ++i;
    }
  }
}

std::string Arguments::text(const std::string& key) const {
  for (const auto& [name, value] : options)
    if (name == key) return value;
  return {};
}

std::int64_t Arguments::number(const std::string& key, std::int64_t otherwise) const {
  const auto value = text(key);
  return value.empty() ? otherwise : std::atoll(value.c_str());
}

std::vector<pid_t> Arguments::pids(const std::string& key) const {
  std::vector<pid_t> found;
  std::istringstream list{text(key)};
  for (std::string one; std::getline(list, one, ',');) found.push_back(std::atoi(one.c_str()));
  return found;
}

}  // namespace bench
