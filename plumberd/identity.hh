// Who a local client is: whoever opened its connection, pinned by the kernel so that a reused pid cannot pass
// for it.
#pragma once
#include <sys/types.h>

#include "ipc/fd.hh"
#include "plumberd/decision.hh"
#include "plumberd/judge.hh"

namespace plumberd {

struct Config;

/// Identity of the other end of a connected AF_UNIX socket. Facts that cost system calls are gathered when
/// asked for.
class Identity {
 public:
  /// Reads SO_PEERCRED. `socket` is borrowed and must stay open as long as facts are gathered.
  static ipc::Result<Identity> of_peer(int socket);
  const Facts& facts() const { return facts_; }
  uid_t uid() const { return uid_; }
  /// Root or the router's own user: its own policy is not hidden from it.
  bool is_owner() const { return facts_.is_owner; }
  /// Looks a fact up and remembers the outcome; what cannot be known is marked asked and stays empty.
  void gather(Fact fact);
  Decision::Who who() const;

 private:
  void gather_groups();
  void gather_exe();
  void gather_units();
  bool pin();
  bool still_alive() const;
  int socket_ = -1;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  pid_t pid_ = 0;
  ipc::Fd pidfd_;
  bool weak_ = false;
  Facts facts_;
};

/// The unit and the user unit that /proc/PID/cgroup names (systemd.unit(5), cgroup v2 or the name=systemd
/// hierarchy). Pure.
struct Units {
  std::string system{}, user{};
};
Units units_of(std::string_view cgroup_file);

/// Root, the router's user, or one of [admin].
bool is_operator(const Config& config, Identity& identity);

/// Judges with facts gathered as they are needed; a missing address is answered with `need`.
Verdict judge_as(const RuleSet& rules, const Question& question, Identity& identity);

}  // namespace plumberd
