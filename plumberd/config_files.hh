// Which files make the configuration, and reading them.
#pragma once
#include <string>
#include <vector>

#include "ipc/error.hh"

namespace plumberd {

/// /etc/plumberd/plumberd.toml (root) or $XDG_CONFIG_HOME/plumberd/plumberd.toml, then plumberd.d/*.toml
/// beside it in name order; only those that exist.
std::vector<std::string> default_config_files();
/// The whole file. An error is "what; remedy": absent, unreadable, not ours or root's, writable by others,
/// over 64 MiB.
ipc::Result<std::string> read_config_file(const std::string& path);

}  // namespace plumberd
