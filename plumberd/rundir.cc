#include "plumberd/rundir.hh"

#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "ipc/name.hh"
#include "plumberd/unix_connect.hh"

namespace plumberd {
namespace {
constexpr const char* system_rundir = "/run/ipc";
constexpr int backlog = 4096;  // the kernel cuts it to net.core.somaxconn

std::string user_name(uid_t uid) {
  std::array<char, 1024> room;
  passwd entry{};
  passwd* found = nullptr;
  ::getpwuid_r(uid, &entry, room.data(), room.size(), &found);
  return found != nullptr ? found->pw_name : "uid " + std::to_string(uid);
}

const sockaddr* generic(const sockaddr_un& address) { return reinterpret_cast<const sockaddr*>(&address); }

std::unexpected<ipc::Error> foreign(const std::string& what, uid_t owner) {
  return ipc::fail(ipc::Word::taken,
                   what + " belongs to " + user_name(owner) + "; remove it or choose another --rundir");
}

bool ours(const struct stat& status) { return status.st_uid == ::geteuid(); }

/// What is on the way to `path`; those that are there already stay as they are.
ipc::Result<> make_parents(const std::string& path) {
  for (auto slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
    const auto parent = path.substr(0, slash);
    if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) return ipc::fail_errno("mkdir " + parent);
  }
  return {};
}

ipc::Result<> make_directory(const std::string& path) {
  TRY(make_parents(path));
  if (::mkdir(path.c_str(), 0700) != 0)
    return errno == EEXIST ? ipc::Result<>{} : ipc::fail_errno("mkdir " + path);
  // chmod because the umask narrows mkdir's mode.
  if (::geteuid() == 0 && ::chmod(path.c_str(), 01777) != 0) return ipc::fail_errno("chmod " + path);
  return {};
}

/// The system's directory is everybody's, however it was made (RuntimeDirectory= makes it 0755). In no other
/// does the mode matter to us, but that nobody may put a socket of his own in place of ours.
ipc::Result<> mend_mode(const std::string& path, mode_t mode) {
  const bool is_systems = path == system_rundir;
  const bool open_to_others = (mode & 0022) != 0 && (mode & S_ISVTX) == 0;
  const mode_t wanted = is_systems ? 01777 : open_to_others ? mode | S_ISVTX : mode;
  if (wanted != mode && ::chmod(path.c_str(), wanted) != 0) return ipc::fail_errno("chmod " + path);
  return {};
}

ipc::Result<> check_directory(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return ipc::fail_errno("stat " + path);
  if (!S_ISDIR(status.st_mode)) return ipc::fail(ipc::Word::taken, path + " is no directory");
  if (!ours(status)) return foreign("the run directory " + path, status.st_uid);
  return mend_mode(path, status.st_mode & 07777);
}

std::string lock_holder(int fd) {
  std::array<char, 32> text{};
  const auto size = ::pread(fd, text.data(), text.size() - 1, 0);
  const std::string pid{text.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
  return pid.empty() ? "another process" : "pid " + pid.substr(0, pid.find('\n'));
}

ipc::Result<ipc::Fd> take_lock(const std::string& path) {
  const auto file = path + "/plumberd.lock";
  ipc::Fd lock{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)};
  if (!lock) return ipc::fail_errno("open " + file);
  struct stat status {};
  if (::fstat(lock.borrow(), &status) != 0) return ipc::fail_errno("stat " + file);
  if (!ours(status)) return foreign("the lock " + file, status.st_uid);
  if (::flock(lock.borrow(), LOCK_EX | LOCK_NB) != 0)
    return ipc::fail(ipc::Word::taken,
                     "a router already serves " + path + " (" + lock_holder(lock.borrow()) + ")");
  const auto pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock.borrow(), 0) != 0 || ::pwrite(lock.borrow(), pid.data(), pid.size(), 0) < 0)
    return ipc::fail_errno("write " + file);
  return lock;
}

/// Proves that the socket at `path` is a dead one of ours before it is removed.
ipc::Result<> clear_stale(const std::string& path, int type) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0)
    return errno == ENOENT ? ipc::Result<>{} : ipc::fail_errno("stat " + path);
  if (!S_ISSOCK(status.st_mode)) return ipc::fail(ipc::Word::taken, path + " is there and is no socket");
  if (!ours(status)) return foreign("the socket " + path, status.st_uid);
  const auto probe = connect_unix(path, type);
  if (probe || probe.error().word == ipc::Word::busy)  // a full queue is somebody's too
    return ipc::fail(ipc::Word::taken, "a process already listens on " + path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ipc::fail_errno("unlink " + path);
  return {};
}
}  // namespace

std::string find_rundir(const std::optional<std::string>& argument) {
  const auto variable = [](const char* name) {
    const char* value = ::secure_getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  if (argument) return *argument;
  if (auto path = variable("IPC_RUNDIR"); !path.empty()) return path;
  if (::geteuid() == 0) return system_rundir;
  if (auto path = variable("XDG_RUNTIME_DIR"); !path.empty()) return path + "/ipc";
  return "/tmp/ipc-" + std::to_string(::geteuid());
}

ipc::Result<RunDir> RunDir::take(const std::string& given) {
  auto path = given;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (!path.starts_with('/'))
    return ipc::fail(ipc::Word::bad_request, "the run directory " + path + " is no absolute path");
  TRY(unix_address(path + "/plumberd"));
  TRY(make_directory(path));
  TRY(check_directory(path));
  auto lock = TRY(take_lock(path));
  return RunDir{std::move(path), std::move(lock)};
}

ipc::Result<ipc::Fd> RunDir::bind(std::string_view name, int type) const {
  const auto path = file(name);
  const auto address = TRY(unix_address(path));
  TRY(clear_stale(path, type));
  auto socket = TRY(ipc::unix_socket(type));
  if (::bind(socket.borrow(), generic(address), sizeof address) != 0) return ipc::fail_errno("bind " + path);
  if (::chmod(path.c_str(), 0666) != 0) return ipc::fail_errno("chmod " + path);
  if (::listen(socket.borrow(), backlog) != 0) return ipc::fail_errno("listen " + path);
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) bound_[std::string(name)] = {status.st_dev, status.st_ino};
  return socket;
}

void RunDir::remove(std::string_view name) const {
  const auto found = bound_.find(name);
  struct stat status {};
  if (found == bound_.end() || ::lstat(file(name).c_str(), &status) != 0) return;
  if (found->second == std::pair{status.st_dev, status.st_ino}) ::unlink(file(name).c_str());
  bound_.erase(found);
}

void RunDir::remove_all() const {
  while (!bound_.empty()) {
    const auto name = bound_.begin()->first;
    remove(name);
    bound_.erase(name);
  }
}

ipc::Result<ipc::Fd> RunDir::connect(std::string_view name, int type) const {
  return connect_unix_itself(file(name), type, Links::not_at_end);
}
}  // namespace plumberd
