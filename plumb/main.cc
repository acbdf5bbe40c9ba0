// plumb: the command line of plumberd.
#include <algorithm>

#include "plumb/cli.hh"
#include "plumb/output.hh"

namespace {
bool wants_json(const std::vector<std::string>& arguments) {
  const auto own = std::ranges::find(arguments, "--");
  return std::find(arguments.begin(), own, "--json") != own;
}
}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  const auto request = plumb::parse_command_line(arguments);
  if (request) return plumb::find_command(request->command)->run(*request);
  if (request.error().status != 0) return plumb::fail_usage(wants_json(arguments), request.error().text);
  plumb::put(request.error().text);
  return 0;
}
