// The command line of plumberd(8).
#pragma once
#include <optional>
#include <string>

#include "plumberd/config.hh"
#include "plumberd/log.hh"

namespace plumberd {

struct Options {
  Arguments arguments{};
  std::optional<std::string> rundir{};
  bool check = false;
  LogLevel log_level = LogLevel::info;
  LogFormat log_format = LogFormat::text;
};

/// Either options to run with, or the exit status after --help, --version or a usage error has been printed.
std::expected<Options, int> parse_options(int argc, char** argv);

}  // namespace plumberd
