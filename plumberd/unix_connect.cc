#include "plumberd/unix_connect.hh"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>

#include "ipc/name.hh"

namespace plumberd {
namespace {
constexpr ipc::Milliseconds first_pause{5};
constexpr ipc::Milliseconds longest_pause{160};

/// `shown` is what error sentences call it.
ipc::Result<ipc::Fd> connect_to(const std::string& path, const std::string& shown, int type) {
  const auto address = TRY(unix_address(path));
  auto socket = TRY(ipc::unix_socket(type));
  if (::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return socket;
  if (errno == EAGAIN) return ipc::fail(ipc::Word::busy, shown + ": its queue of connections is full");
  if (errno == EPROTOTYPE) return ipc::fail(ipc::Word::unreachable, shown + " is a socket of another type");
  return ipc::fail(ipc::Word::unreachable, "connect " + shown + ": " + ipc::errno_text(errno));
}

std::unexpected<ipc::Error> cannot_open(const std::string& path) {
  const bool exhausted = errno == EMFILE || errno == ENFILE;
  return ipc::fail(exhausted ? ipc::Word::busy : ipc::Word::unreachable,
                   "open " + path + ": " + ipc::errno_text(errno));
}
std::optional<std::string> link_target(const std::string& path) {
  std::array<char, PATH_MAX> text;
  const auto size = ::readlink(path.c_str(), text.data(), text.size());
  if (size <= 0 || static_cast<std::size_t>(size) == text.size()) return std::nullopt;
  return std::string(text.data(), static_cast<std::size_t>(size));
}
}  // namespace

int socket_type(std::string_view name) {
  if (name == "dgram") return SOCK_DGRAM;
  return name == "seqpacket" ? SOCK_SEQPACKET : SOCK_STREAM;
}

ipc::Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return ipc::fail(ipc::Word::bad_request,
                     "the path " + ipc::printable(path) + " is longer than 107 bytes (sun_path)");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

ipc::Result<ipc::Fd> connect_unix(const std::string& path, int type) { return connect_to(path, path, type); }

ipc::Result<ipc::Fd> connect_unix_itself(const std::string& path, int type, Links links) {
  const open_how how{.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                     .mode = 0,
                     .resolve = links == Links::nowhere ? RESOLVE_NO_SYMLINKS : std::uint64_t{0}};
  const ipc::Fd place{static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how))};
  struct stat status {};
  if (!place || ::fstat(place.borrow(), &status) != 0) return cannot_open(path);
  if (!S_ISSOCK(status.st_mode) || status.st_nlink != 1)
    return ipc::fail(ipc::Word::unreachable, path + " is no socket, or a link to one");
  return connect_to("/proc/self/fd/" + std::to_string(place.borrow()), path, type);
}

/// Walks as the kernel does (path_resolution(7)).
ipc::Result<RealPath> real_path(const std::string& path) {
  constexpr int most_links = 40;
  RealPath real;
  std::string rest = path;
  for (int links = 0; !rest.empty();) {
    const auto slash = std::min(rest.find('/'), rest.size());
    const auto name = rest.substr(0, slash);
    rest.erase(0, std::min(slash + 1, rest.size()));
    if (name.empty() || name == ".") continue;
    if (name == "..") {
      real.path.resize(std::min(real.path.rfind('/'), real.path.size()));
      continue;
    }
    const auto next = real.path + "/" + name;
    struct stat status {};
    if (::lstat(next.c_str(), &status) != 0) return cannot_open(path);
    if (!S_ISLNK(status.st_mode)) {
      real.path = next;
      continue;
    }
    const auto to = link_target(next);
    if (!to || ++links > most_links) return cannot_open(path);
    real.trusted = real.trusted && (status.st_uid == 0 || status.st_uid == ::geteuid());
    if (to->starts_with('/')) real.path.clear();
    rest = *to + "/" + rest;
  }
  return real;
}

PatientConnect::PatientConnect(ipc::Loop& loop, ipc::Milliseconds time, Try attempt, Done done)
    : loop_{loop},
      ends_at_{loop.now() + static_cast<std::uint64_t>(time.count())},
      try_{std::move(attempt)},
      done_{std::move(done)},
      pause_{first_pause} {}

void PatientConnect::start() {
  auto socket = try_();
  const bool busy = !socket && socket.error().word == ipc::Word::busy;
  if (busy && loop_.now() + static_cast<std::uint64_t>(pause_.count()) < ends_at_) {
    timer_ = ipc::Timer{loop_, pause_, [this] { start(); }};
    pause_ = std::min(pause_ * 2, longest_pause);
    return;
  }
  const auto done = std::move(done_);
  done(std::move(socket));
}
}  // namespace plumberd
