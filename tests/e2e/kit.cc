#include "tests/e2e/kit.hh"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ipc/address.hh"

namespace kit {
namespace {
sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) give_up(path + " is too long for a socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

struct TcpAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

/// A literal of either family.
TcpAddress tcp_address(std::uint16_t port, const char* text) {
  TcpAddress address;
  const auto literal = ipc::parse_address(text);
  if (!literal) give_up(std::string(text) + " is no address");
  address.size = ipc::to_sockaddr(*literal, port, address.storage);
  return address;
}

template <class Address>
const sockaddr* generic(const Address& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

ipc::Fd new_socket(int family, int type) {
  ipc::Fd socket{::socket(family, type | SOCK_CLOEXEC, 0)};
  if (!socket) give_up("socket: " + ipc::errno_text(errno));
  return socket;
}

int try_connect(const ipc::Fd& socket, const std::string& path) {
  const auto address = unix_address(path);
  return ::connect(socket.borrow(), generic(address), sizeof address);
}

std::string program_dir() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

std::string fd_dir(pid_t pid) { return pid == 0 ? "/proc/self/fd" : "/proc/" + std::to_string(pid) + "/fd"; }

template <class Visit>
void each_entry(const std::string& directory, Visit visit) {
  DIR* open = ::opendir(directory.c_str());
  if (open == nullptr) return;
  // Of our own descriptors the one that reads them does not count; another process may have one of its
  // number.
  const int own = directory == fd_dir(0) ? ::dirfd(open) : -1;
  while (const dirent* entry = ::readdir(open))
    if (entry->d_name[0] != '.' && std::to_string(own) != entry->d_name) visit(std::string(entry->d_name));
  ::closedir(open);
}
}  // namespace

int Deadline::poll_timeout() const {
  const auto left = std::chrono::ceil<Milliseconds>(end_ - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::max<Milliseconds::rep>(left, 0));
}

void give_up(const std::string& why) {
  cr_assert_fail("%s", why.c_str());
  std::abort();
}

TempDir::TempDir() {
  std::string pattern = "/tmp/plumb-XXXXXX";
  if (::mkdtemp(pattern.data()) == nullptr) give_up("mkdtemp: " + ipc::errno_text(errno));
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream{path, std::ios::binary} << text;
}

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream{path, std::ios::binary}.rdbuf();
  return text.str();
}

std::string binary(std::string_view name) {
  const char* given = std::getenv("PLUMBERD_BIN");
  return (given != nullptr ? std::string(given) : program_dir()) + "/" + std::string(name);
}

std::string source_dir() {
  if (const char* given = std::getenv("PLUMBERD_SOURCE")) return given;
  for (std::filesystem::path place = program_dir(); place.has_relative_path(); place = place.parent_path())
    if (std::filesystem::exists(place / "Makefile")) return place.string();
  return std::filesystem::current_path().string();
}

bool installed(std::string_view name) {
  std::istringstream path{std::getenv("PATH") != nullptr ? std::getenv("PATH") : "/usr/bin:/bin"};
  for (std::string part; std::getline(path, part, ':');)
    if (::access((part + "/" + std::string(name)).c_str(), X_OK) == 0) return true;
  return false;
}

ipc::Fd lingering(const ipc::Fd& listener) {
  auto socket = connect_tcp(port_of(listener.borrow()));
  const std::string much(1 << 20, 'x');
  while (::send(socket.borrow(), much.data(), much.size(), MSG_DONTWAIT) > 0) {}
  const linger long_time{.l_onoff = 1, .l_linger = 30};
  ::setsockopt(socket.borrow(), SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time);
  return socket;
}

bool is_readable(int fd, Milliseconds within) {
  const Deadline deadline{within};
  pollfd ready{fd, POLLIN, 0};
  int count = -1;
  do count = ::poll(&ready, 1, deadline.poll_timeout());
  while (count < 0 && errno == EINTR);
  return count > 0;
}

void wait_for_socket(const std::string& path, int type, Milliseconds within) {
  const auto answers = [&] { return try_connect(new_socket(AF_UNIX, type), path) == 0; };
  if (!eventually(answers, within)) give_up(path + " does not accept connections");
}

ipc::Fd connect_unix(const std::string& path, int type) {
  auto socket = new_socket(AF_UNIX, type);
  if (try_connect(socket, path) != 0) give_up("connect " + path + ": " + ipc::errno_text(errno));
  return socket;
}

ipc::Fd connect_tcp(std::uint16_t port, const char* address) {
  const auto place = tcp_address(port, address);
  auto socket = new_socket(place.storage.ss_family, SOCK_STREAM);
  if (::connect(socket.borrow(), generic(place.storage), place.size) != 0)
    give_up("connect to port " + std::to_string(port) + ": " + ipc::errno_text(errno));
  return socket;
}

ipc::Fd listen_unix(const std::string& path, int type) {
  auto socket = new_socket(AF_UNIX, type);
  const auto place = unix_address(path);
  if (::bind(socket.borrow(), generic(place), sizeof place) != 0 || ::listen(socket.borrow(), 128) != 0)
    give_up("listen " + path + ": " + ipc::errno_text(errno));
  return socket;
}

ipc::Fd listen_tcp(const char* address) {
  const auto place = tcp_address(0, address);
  auto socket = new_socket(place.storage.ss_family, SOCK_STREAM);
  if (::bind(socket.borrow(), generic(place.storage), place.size) != 0 || ::listen(socket.borrow(), 128) != 0)
    give_up(std::string("listen ") + address + ": " + ipc::errno_text(errno));
  return socket;
}

ipc::Fd accept_from(const ipc::Fd& listener, Milliseconds within) {
  if (!is_readable(listener.borrow(), within)) give_up("nobody connects");
  ipc::Fd socket{::accept4(listener.borrow(), nullptr, nullptr, SOCK_CLOEXEC)};
  if (!socket) give_up("accept: " + ipc::errno_text(errno));
  return socket;
}

std::uint16_t port_of(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

std::uint16_t free_port() { return port_of(listen_tcp().borrow()); }

void send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto count = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) give_up("send: " + ipc::errno_text(errno));
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::string receive_exactly(int socket, std::size_t size, Milliseconds within) {
  const Deadline deadline{within};
  std::string bytes(size, '\0');
  for (std::size_t got = 0; got < size;) {
    if (!is_readable(socket, Milliseconds{deadline.poll_timeout()}))
      give_up("only \"" + bytes.substr(0, got) + "\" came");
    const auto count = ::recv(socket, bytes.data() + got, size - got, 0);
    if (count <= 0) give_up("the connection ended after \"" + bytes.substr(0, got) + "\"");
    got += static_cast<std::size_t>(count);
  }
  return bytes;
}

std::string receive_all(int socket, Milliseconds within) {
  const Deadline deadline{within};
  std::string bytes;
  std::array<char, 4096> part;
  for (;;) {
    if (!is_readable(socket, Milliseconds{deadline.poll_timeout()})) give_up("the connection does not end");
    const auto count = ::recv(socket, part.data(), part.size(), 0);
    if (count <= 0) return bytes;
    bytes.append(part.data(), static_cast<std::size_t>(count));
  }
}

std::size_t open_fds(pid_t pid) {
  std::size_t count = 0;
  each_entry(fd_dir(pid), [&](const std::string&) { ++count; });
  return count;
}

std::uint64_t inode_of(int fd) {
  struct stat facts {};
  if (::fstat(fd, &facts) != 0) give_up("fstat: " + ipc::errno_text(errno));
  return facts.st_ino;
}

bool holds_socket(pid_t pid, std::uint64_t inode) {
  const auto wanted = "socket:[" + std::to_string(inode) + "]";
  bool found = false;
  each_entry(fd_dir(pid), [&](const std::string& number) {
    std::array<char, 64> link{};
    const auto size = ::readlink((fd_dir(pid) + "/" + number).c_str(), link.data(), link.size());
    found = found || (size > 0 && std::string_view(link.data(), static_cast<std::size_t>(size)) == wanted);
  });
  return found;
}

std::vector<pid_t> descendants(pid_t pid) {
  std::vector<pid_t> all;
  each_entry("/proc/" + std::to_string(pid) + "/task", [&](const std::string& thread) {
    std::istringstream children{read_file("/proc/" + std::to_string(pid) + "/task/" + thread + "/children")};
    for (pid_t child = 0; children >> child;) {
      all.push_back(child);
      for (const pid_t below : descendants(child)) all.push_back(below);
    }
  });
  return all;
}

TcpServer::TcpServer(Serve serve, const char* address)
    : serve_{std::move(serve)},
      listener_{listen_tcp(address)},
      stop_{::eventfd(0, EFD_CLOEXEC)},
      port_{port_of(listener_.borrow())},
      acceptor_{[this] { accept_all(); }} {}

TcpServer::~TcpServer() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto count = ::write(stop_.borrow(), &one, sizeof one);
  acceptor_.join();
  for (const auto& socket : sockets_) ::shutdown(socket.borrow(), SHUT_RDWR);
  for (auto& thread : threads_) thread.join();
}

int TcpServer::connections() const {
  const std::lock_guard guard{lock_};
  return static_cast<int>(threads_.size());
}

void TcpServer::accept_all() {
  for (;;) {
    std::array<pollfd, 2> ready{{{listener_.borrow(), POLLIN, 0}, {stop_.borrow(), POLLIN, 0}}};
    ::poll(ready.data(), ready.size(), -1);
    if (ready[1].revents != 0) return;
    ipc::Fd socket{::accept4(listener_.borrow(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!socket) continue;
    const std::lock_guard guard{lock_};
    const int raw = socket.borrow();
    sockets_.push_back(std::move(socket));
    threads_.emplace_back([this, raw] {
      serve_(raw);
      ::shutdown(raw, SHUT_RDWR);
    });
  }
}

void echo(int socket) {
  std::array<char, 65536> part;
  for (ssize_t count = 0; (count = ::recv(socket, part.data(), part.size(), 0)) > 0;)
    if (::send(socket, part.data(), static_cast<std::size_t>(count), MSG_NOSIGNAL) != count) return;
}

void pong(int socket) {
  std::array<char, 4096> part;
  for (ssize_t count = 0; (count = ::recv(socket, part.data(), part.size(), 0)) > 0;)
    for (auto lines = std::count(part.data(), part.data() + count, '\n'); lines > 0; --lines)
      if (::send(socket, "pong\n", 5, MSG_NOSIGNAL) != 5) return;
}
}  // namespace kit
