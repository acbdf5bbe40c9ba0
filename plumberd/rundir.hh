// The run directory: found, created, owned by one router at a time, its sockets bound and removed.
#pragma once
#include <sys/types.h>

#include <map>
#include <optional>
#include <string>

#include "ipc/fd.hh"

namespace plumberd {

/// --rundir > $IPC_RUNDIR > /run/ipc (root) > $XDG_RUNTIME_DIR/ipc > /tmp/ipc-$UID.
std::string find_rundir(const std::optional<std::string>& argument);

class RunDir {
 public:
  /// Creates the directory (1777 for root's, 0700 for a user's), refuses one of a foreign owner, and takes
  /// the lock: a second router is told who holds it. The lock lives as long as this object.
  static ipc::Result<RunDir> take(const std::string& path);
  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }

  /// A listening socket at RUNDIR/name, mode 0666. A dead router's socket is replaced; one that somebody
  /// still answers on, or that belongs to somebody else, is refused (TAKEN names the owner).
  ipc::Result<ipc::Fd> bind(std::string_view name, int type) const;
  /// Removes RUNDIR/name if it is the socket that `bind` made.
  void remove(std::string_view name) const;
  /// And all that it made.
  void remove_all() const;
  /// `connect_unix` to the socket at RUNDIR/name itself. Others may write in this directory: a link,
  /// or what is put in place of the socket meanwhile, must not lead to sockets that only we may open.
  ipc::Result<ipc::Fd> connect(std::string_view name, int type) const;

 private:
  RunDir(std::string path, ipc::Fd lock) : path_{std::move(path)}, lock_{std::move(lock)} {}
  std::string path_;
  ipc::Fd lock_;
  mutable std::map<std::string, std::pair<dev_t, ino_t>, std::less<>> bound_{};
};

}  // namespace plumberd
