#include "plumberd/identity.hh"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "plumberd/config.hh"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // Linux 6.5; the headers of Debian 12 are older
#endif

namespace plumberd {
namespace {
std::string proc_path(pid_t pid, const char* file) { return "/proc/" + std::to_string(pid) + "/" + file; }

void mark(Facts& facts, Fact fact) { facts.asked.set(static_cast<std::size_t>(fact)); }

/// Takes the unit that stands behind the slices off the path. What is below belongs to it, and is its own to
/// name (Delegate=, systemd.resource-control(5)).
std::string_view take_unit(std::string_view& path) {
  while (path.starts_with('/')) {
    const auto end = std::min(path.find('/', 1), path.size());
    const auto name = path.substr(1, end - 1);
    path.remove_prefix(end);
    if (name.ends_with(".service") || name.ends_with(".scope")) return name;
    if (!name.ends_with(".slice")) break;
  }
  path = {};
  return {};
}

/// The path of the hierarchy that systemd manages.
std::string systemd_path(std::string_view cgroup_file) {
  std::istringstream lines{std::string(cgroup_file)};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) return line.substr(3);
    const auto named = line.find(":name=systemd:");
    if (named != line.npos) return line.substr(named + 14);
  }
  return {};
}
}  // namespace

Units units_of(std::string_view cgroup_file) {
  const auto path = systemd_path(cgroup_file);
  std::string_view rest{path};
  Units units;
  units.system = take_unit(rest);
  // Only the managers of users are there, and nobody else can be.
  if (path.starts_with("/user.slice/") && units.system.starts_with("user@")) units.user = take_unit(rest);
  return units;
}

ipc::Result<Identity> Identity::of_peer(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return ipc::fail_errno("SO_PEERCRED");
  Identity identity;
  identity.socket_ = socket;
  identity.uid_ = credentials.uid;
  identity.gid_ = credentials.gid;
  identity.pid_ = credentials.pid;
  identity.facts_.uid = credentials.uid;
  static const uid_t own = ::geteuid();
  identity.facts_.is_owner = credentials.uid == 0 || credentials.uid == own;
  return identity;
}

void Identity::gather(Fact fact) {
  mark(facts_, fact);
  if (fact == Fact::groups) gather_groups();
  if (fact == Fact::exe) gather_exe();
  if (fact == Fact::unit || fact == Fact::user_unit) gather_units();
}

void Identity::gather_groups() {
  std::vector<gid_t> groups(64);
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int status = ::getsockopt(socket_, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (status != 0 && errno == ERANGE) {  // `size` says how much it takes
    groups.resize(size / sizeof(gid_t));
    status = ::getsockopt(socket_, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  if (status != 0) return;
  groups.resize(size / sizeof(gid_t));
  groups.push_back(gid_);
  std::ranges::sort(groups);
  facts_.groups = std::move(groups);
}

/// SO_PEERPIDFD names the process that opened the connection, for ever; pidfd_open of its pid may already
/// name another.
bool Identity::pin() {
  if (pidfd_) return true;
  int raw = -1;
  socklen_t size = sizeof raw;
  if (::getsockopt(socket_, SOL_SOCKET, SO_PEERPIDFD, &raw, &size) == 0) {
    pidfd_ = ipc::Fd{raw};
    return true;
  }
  if (errno != ENOPROTOOPT && errno != EINVAL) return false;
  weak_ = true;
  pidfd_ = ipc::Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
  return static_cast<bool>(pidfd_);
}

bool Identity::still_alive() const {
  return ::syscall(SYS_pidfd_send_signal, pidfd_.borrow(), 0, nullptr, 0) == 0 || errno == EPERM;
}

void Identity::gather_exe() {
  if (!pin()) return;
  std::array<char, 4096> path;
  const auto length = ::readlink(proc_path(pid_, "exe").c_str(), path.data(), path.size());
  // Alive after the reading: the pid was this process's all along.
  if (length <= 0 || static_cast<std::size_t>(length) == path.size() || !still_alive()) return;
  facts_.exe = std::string(path.data(), static_cast<std::size_t>(length));
}

void Identity::gather_units() {
  mark(facts_, Fact::unit);
  mark(facts_, Fact::user_unit);
  if (!pin()) return;
  std::ifstream file{proc_path(pid_, "cgroup")};
  std::stringstream text;
  text << file.rdbuf();
  if (!file || !still_alive()) return;
  auto units = units_of(text.str());
  facts_.unit = std::move(units.system);
  facts_.user_unit = std::move(units.user);
}

Decision::Who Identity::who() const {
  return {.known = true,
          .uid = uid_,
          .gid = gid_,
          .pid = pid_,
          .exe = facts_.exe.value_or(""),
          .unit = facts_.unit.value_or(""),
          .weak = weak_};
}

bool is_operator(const Config& config, Identity& identity) {
  if (identity.is_owner() || std::ranges::find(config.admin_uids, identity.uid()) != config.admin_uids.end())
    return true;
  if (config.admin_gids.empty()) return false;
  if (!identity.facts().has(Fact::groups)) identity.gather(Fact::groups);
  const auto is_admin = [&](gid_t gid) {
    return std::ranges::find(config.admin_gids, gid) != config.admin_gids.end();
  };
  const auto& groups = identity.facts().groups;
  return groups && std::ranges::any_of(*groups, is_admin);
}

Verdict judge_as(const RuleSet& rules, const Question& question, Identity& identity) {
  for (;;) {
    auto verdict = judge(rules, question, identity.facts());
    if (verdict.kind != Verdict::Kind::need || verdict.need == Fact::address) return verdict;
    identity.gather(verdict.need);
  }
}
}  // namespace plumberd
