// plumb: the command line of plumberd.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "plumb/cli.hh"
#include "plumb/output.hh"

namespace {
bool wants_json(const std::vector<std::string>& arguments) {
  const auto own = std::ranges::find(arguments, "--");
  return std::find(arguments.begin(), own, "--json") != own;
}

/// A descriptor of ours must not get the number of a standard one that is closed.
void have_standard_descriptors() {
  int fd = 0;
  do fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}
}  // namespace

int main(int argc, char** argv) {
  have_standard_descriptors();
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  const auto request = plumb::parse_command_line(arguments);
  if (request) return plumb::find_command(request->command)->run(*request);
  if (request.error().status != 0) return plumb::fail_usage(wants_json(arguments), request.error().text);
  plumb::put(request.error().text);
  return 0;
}
