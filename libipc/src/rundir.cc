#include "ipc/rundir.hh"

#include <pwd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "ipc/name.hh"

namespace ipc {
namespace {
constexpr const char* system_rundir = "/run/ipc";
constexpr const char* router_user = "plumberd";

std::string environment(const char* name) {
  const char* value = ::secure_getenv(name);
  return value != nullptr ? value : "";
}

std::optional<uid_t> uid_of(const char* user) {
  std::vector<char> room(4096);
  passwd entry{};
  passwd* found = nullptr;
  while (::getpwnam_r(user, &entry, room.data(), room.size(), &found) == ERANGE && room.size() < (1U << 20))
    room.resize(room.size() * 2);
  if (found == nullptr) return std::nullopt;
  return found->pw_uid;
}

/// Only blocking connects wait for room in a backlog, and only this timeout ends their wait. It belongs to
/// the socket: zero takes it off again.
void limit_connect(int socket, Milliseconds limit) {
  const timeval value{.tv_sec = limit.count() / 1000, .tv_usec = (limit.count() % 1000) * 1000};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
}

std::unexpected<Error> connect_failure(const std::string& path, int code) {
  const auto sentence = printable(path) + ": " + errno_text(code);
  switch (code) {
    case EAGAIN:
      return fail(Word::timeout, printable(path) + " takes no connection within the deadline");
    case EACCES:
    case EPERM:
      return fail(Word::denied, sentence);
    case ENOENT:
    case ECONNREFUSED:
    case ENOTDIR:
    case ENOTSOCK:
    case EPROTOTYPE:
      return fail(Word::no_router, sentence);
    default:
      return fail(Word::internal, "connect to " + sentence);
  }
}
}  // namespace

std::vector<std::string> client_rundirs(std::string_view given) {
  if (!given.empty()) return {std::string(given)};
  if (auto chosen = environment("IPC_RUNDIR"); !chosen.empty()) return {std::move(chosen)};
  std::vector<std::string> places;
  if (const auto runtime = environment("XDG_RUNTIME_DIR"); runtime.starts_with('/'))
    places.push_back(runtime + "/ipc");
  places.emplace_back(system_rundir);
  return places;
}

std::string native_door(std::string_view rundir) { return std::string(rundir) + "/plumberd"; }

Result<Fd> connect_unix(const std::string& path, int type, const Deadline& deadline) {
  constexpr Milliseconds unlimited{0};  // what SO_SNDTIMEO means by 0
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Word::bad_request,
                printable(path) + " is longer than the 107 bytes that a UNIX socket's path may have");
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket{::socket(AF_UNIX, type | SOCK_CLOEXEC, 0)};
  if (!socket) return fail_errno("socket(AF_UNIX)");
  for (;;) {
    const auto left = deadline.left(unlimited);
    if (deadline.passed()) return connect_failure(path, EAGAIN);
    limit_connect(socket.borrow(), left);
    if (::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) break;
    if (errno != EINTR) return connect_failure(path, errno);
  }
  limit_connect(socket.borrow(), unlimited);
  return socket;
}

Result<> check_door_owner(int socket, const std::string& path) {
  ucred owner{};
  socklen_t size = sizeof owner;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &owner, &size) != 0) return fail_errno("SO_PEERCRED");
  if (owner.uid == 0 || owner.uid == ::geteuid() || owner.uid == uid_of(router_user)) return {};
  return fail(Word::auth, printable(path) + " belongs to uid " + std::to_string(owner.uid) +
                              ", which is neither root, nor the user plumberd, nor you: it is not trusted");
}
}  // namespace ipc
