// Programs under supervision: start, watch, end.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "tests/e2e/kit.hh"

extern char** environ;

namespace kit {
namespace {
std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (auto& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::vector<std::string> environment_with(const std::vector<std::string>& changes) {
  std::vector<std::string> all;
  const auto changed = [&](std::string_view entry) {
    return std::ranges::any_of(changes, [&](const auto& c) { return name_of(c) == name_of(entry); });
  };
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!changed(*entry)) all.emplace_back(*entry);
  for (const auto& change : changes)
    if (change.find('=') != change.npos) all.push_back(change);
  return all;
}

/// A nameless file; no memfd, since inotify(7) is silent about those.
ipc::Fd nameless_file() {
  std::string pattern = "/tmp/plumb-output-XXXXXX";
  ipc::Fd file{::mkostemp(pattern.data(), O_CLOEXEC | O_APPEND)};
  if (!file) give_up("mkostemp: " + ipc::errno_text(errno));
  ::unlink(pattern.c_str());
  return file;
}

std::string contents(const ipc::Fd& file) {
  struct stat facts {};
  ::fstat(file.borrow(), &facts);
  std::string text(static_cast<std::size_t>(facts.st_size), '\0');
  const auto count = ::pread(file.borrow(), text.data(), text.size(), 0);
  text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return text;
}

ipc::Fd inotify_of(const std::string& path, std::uint32_t events) {
  ipc::Fd notes{::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
  if (!notes || ::inotify_add_watch(notes.borrow(), path.c_str(), events) < 0)
    give_up("inotify " + path + ": " + ipc::errno_text(errno));
  return notes;
}

void drain(const ipc::Fd& notes) {
  std::array<char, 4096> buffer;
  while (::read(notes.borrow(), buffer.data(), buffer.size()) > 0) {}
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

/// Between fork and exec: nothing but system calls, and no return. Descriptors move above the numbers they
/// are to get first, so that none is overwritten before its turn.
[[noreturn]] void become(const Command& command, char* const* argv, char* const* envp, int in, int out,
                         int err) {
  constexpr int above = 200;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const std::array standard{in, out, err};
  std::array<int, 3> moved{};
  for (std::size_t i = 0; i < 3; ++i) moved[i] = ::fcntl(standard[i], F_DUPFD_CLOEXEC, above);
  std::array<int, 16> extra{};
  for (std::size_t i = 0; i < command.fds.size() && i < extra.size(); ++i)
    extra[i] = ::fcntl(command.fds[i].first, F_DUPFD_CLOEXEC, above);
  for (int i = 0; i < 3; ++i) ::dup2(moved[static_cast<std::size_t>(i)], i);
  for (std::size_t i = 0; i < command.fds.size() && i < extra.size(); ++i)
    ::dup2(extra[i], command.fds[i].second);
  if (!command.directory.empty() && ::chdir(command.directory.c_str()) != 0) ::_exit(127);
  if (command.uid &&
      (::setgroups(0, nullptr) != 0 || ::setgid(*command.uid) != 0 || ::setuid(*command.uid) != 0))
    ::_exit(127);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // setuid(2) cleared it
  ::execvpe(argv[0], argv, envp);
  ::_exit(127);
}
}  // namespace

Process::Process(const Command& command)
    : output_{nameless_file()}, error_{nameless_file()}, name_{command.args.at(0)} {
  auto args = command.args;
  auto environment = environment_with(command.env);
  const auto argv = pointers(args);
  const auto envp = pointers(environment);
  const ipc::Fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int in = command.input >= 0 ? command.input : null.borrow();
  const int out = command.output >= 0 ? command.output : output_.borrow();
  pid_ = ::fork();
  if (pid_ < 0) give_up("fork: " + ipc::errno_text(errno));
  if (pid_ == 0) become(command, argv.data(), envp.data(), in, out, error_.borrow());
  pidfd_ = ipc::Fd{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
}

Process::Process(Process&& from) noexcept
    : pid_{std::exchange(from.pid_, -1)},
      pidfd_{std::move(from.pidfd_)},
      output_{std::move(from.output_)},
      error_{std::move(from.error_)},
      name_{std::move(from.name_)} {}

Process::~Process() { kill(); }

bool Process::is_running() const { return pid_ > 0 && !is_readable(pidfd_.borrow(), 0ms); }

void Process::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

int Process::wait(Milliseconds within) {
  if (!is_readable(pidfd_.borrow(), within)) give_up(name_ + " does not end; it said:\n" + error());
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int Process::stop() {
  signal(SIGTERM);
  return wait();
}

void Process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

std::string Process::error() const { return contents(error_); }
std::string Process::output() const { return contents(output_); }

void Process::wait_for_error(std::string_view text, Milliseconds within) const {
  wait_for(error_, text, within);
}
void Process::wait_for_output(std::string_view text, Milliseconds within) const {
  wait_for(output_, text, within);
}

void Process::wait_for(const ipc::Fd& file, std::string_view text, Milliseconds within) const {
  const Deadline deadline{within};
  const auto notes = inotify_of("/proc/self/fd/" + std::to_string(file.borrow()), IN_MODIFY);
  for (;;) {
    const bool ended = !is_running();
    if (contents(file).find(text) != std::string::npos) return;
    if (ended || deadline.passed())
      give_up(name_ + (ended ? " ended" : " goes on") + " without \"" + std::string(text) + "\"; it said:\n" +
              contents(file));
    std::array<pollfd, 2> ready{{{notes.borrow(), POLLIN, 0}, {pidfd_.borrow(), POLLIN, 0}}};
    ::poll(ready.data(), ready.size(), deadline.poll_timeout());
    drain(notes);
  }
}

Outcome run(Command command, std::string_view input, Milliseconds within) {
  const auto given = nameless_file();
  if (::write(given.borrow(), input.data(), input.size()) != static_cast<ssize_t>(input.size()))
    give_up("cannot store the input of " + command.args.at(0));
  ::lseek(given.borrow(), 0, SEEK_SET);
  if (command.input < 0) command.input = given.borrow();
  Process process{command};
  const int status = process.wait(within);
  return Outcome{status, process.output(), process.error()};
}

void must_please_promtool(std::string_view metrics) {
  if (!installed("promtool")) return;
  const auto verdict = run({.args = {"promtool", "check", "metrics"}}, metrics);
  cr_assert_eq(verdict.status, 0, "%s%s", verdict.output.c_str(), verdict.error.c_str());
}

void wait_for_file(const std::string& path, Milliseconds within) {
  const Deadline deadline{within};
  const auto notes = inotify_of(parent_of(path), IN_CREATE | IN_MOVED_TO);
  while (::access(path.c_str(), F_OK) != 0) {
    if (deadline.passed()) give_up(path + " does not appear");
    pollfd ready{notes.borrow(), POLLIN, 0};
    ::poll(&ready, 1, deadline.poll_timeout());
    drain(notes);
  }
}

bool eventually(const std::function<bool()>& is_so, Milliseconds within) {
  constexpr int pause_ms = 3;
  const Deadline deadline{within};
  while (!is_so()) {
    if (deadline.passed()) return false;
    ::poll(nullptr, 0, pause_ms);
  }
  return true;
}
}  // namespace kit
