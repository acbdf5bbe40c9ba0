#include "plumb/program.hh"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "plumb/output.hh"

extern char** environ;

namespace plumb {
namespace {
constexpr std::string_view prefix = "PLUMB_";

std::string variable_of(std::string_view label) {
  std::string name{prefix};
  for (const char c : label) {
    const bool lower = c >= 'a' && c <= 'z';
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    name += lower ? static_cast<char>(c - 'a' + 'A') : plain ? c : '_';
  }
  return name;
}

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const auto& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}
}  // namespace

std::vector<std::string> environment_for(const ipc::Labels& labels, std::vector<std::string> more) {
  auto all = std::move(more);
  const auto add = [&all](std::string entry) {
    const auto same = [&](const std::string& other) { return name_of(other) == name_of(entry); };
    if (std::ranges::none_of(all, same)) all.push_back(std::move(entry));
  };
  for (const auto& [label, value] : labels)
    if (value.find('\0') == value.npos) add(variable_of(label) + "=" + value);
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with(prefix)) all.emplace_back(*entry);
  return all;
}

int become(const std::vector<std::string>& program, const std::vector<std::string>& environment,
           int connection) {
  // Ours may be 0 or 1 itself, where the caller had closed those.
  const int copy = ::fcntl(connection, F_DUPFD_CLOEXEC, 3);
  if (copy < 0 || ::dup2(copy, STDIN_FILENO) < 0 || ::dup2(copy, STDOUT_FILENO) < 0) return 126;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const auto argv = pointers(program);
  const auto envp = pointers(environment);
  ::execvpe(argv[0], argv.data(), envp.data());
  const int code = errno;
  complain(program[0] + ": " + ipc::errno_text(code));
  return code == ENOENT ? 127 : 126;
}
}  // namespace plumb
