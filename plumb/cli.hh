// The command line of plumb, and nothing else that knows CLI11.
#pragma once
#include <expected>
#include <string>
#include <vector>

#include "plumb/command.hh"

namespace plumb {

/// Why there is nothing to run: help was asked for (status 0), or the usage was wrong (status 2).
struct Stop {
  int status;
  std::string text;
};

/// `arguments` without the program's name. Everything behind the first "--" is the program, untouched.
std::expected<Request, Stop> parse_command_line(std::vector<std::string> arguments);

}  // namespace plumb
