// The life of a helper's process: start, hello, loss, back-off. What is said to it is in helper.cc.
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "plumberd/helper.hh"

extern char** environ;

namespace plumberd {
namespace {
constexpr ipc::Milliseconds hello_deadline{5'000};
constexpr ipc::Milliseconds first_rest{100};
constexpr ipc::Milliseconds longest_rest{10'000};
constexpr std::uint64_t healthy_after_ms = 10'000;
constexpr int helper_fd = 3;

std::vector<std::string> environment_of(const HelperSpec& spec) {
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry)
    if (!std::string_view(*entry).starts_with("PLUMBERD_HELPER_FD=")) variables.emplace_back(*entry);
  for (const auto& [name, value] : spec.environment) variables.push_back(name + "=" + value);
  variables.push_back("PLUMBERD_HELPER_FD=" + std::to_string(helper_fd));
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (auto& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

std::string directory_of_this_program() {
  std::array<char, 4096> path;
  const auto size = ::readlink("/proc/self/exe", path.data(), path.size());
  const std::string_view whole{path.data(), size > 0 ? static_cast<std::size_t>(size) : 0};
  return std::string(whole.substr(0, whole.rfind('/')));
}

/// stdin from /dev/null, what it prints to our stderr, and its end of the channel.
std::array<uv_stdio_container_t, helper_fd + 1> stdio_of(int channel) {
  std::array<uv_stdio_container_t, helper_fd + 1> stdio{};
  const auto inherit = [&stdio](std::size_t as, int fd) {
    stdio[as].flags = UV_INHERIT_FD;
    stdio[as].data.fd = fd;
  };
  stdio[0].flags = UV_IGNORE;
  inherit(1, STDERR_FILENO);
  inherit(2, STDERR_FILENO);
  inherit(helper_fd, channel);
  return stdio;
}

std::string fate(std::int64_t status, int signal) {
  if (signal != 0) return std::string("was killed by ") + ::strsignal(signal);
  return "exited with status " + std::to_string(status);
}
}  // namespace

struct Helper::Process {
  uv_process_t handle{};
  Helper* owner = nullptr;
  std::shared_ptr<bool> owner_alive;
};

namespace {
template <class Process>
void close_process(Process* process) {
  uv_close(reinterpret_cast<uv_handle_t*>(&process->handle),
           [](uv_handle_t* done) { delete reinterpret_cast<Process*>(done); });
}

/// `user = "NAME"` of [helpers.NAME].
ipc::Result<> set_user(uv_process_options_t& options, const std::string& name) {
  if (name.empty()) return {};
  std::array<char, 4096> room;
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
  if (found == nullptr)
    return ipc::fail(ipc::Word::no_helper, "should run as " + name + ", who does not exist");
  options.uid = found->pw_uid;
  options.gid = found->pw_gid;
  options.flags |= UV_PROCESS_SETUID | UV_PROCESS_SETGID;
  return {};
}
}  // namespace

std::string find_program(const std::string& name) {
  for (const auto& directory :
       {directory_of_this_program(), directory_of_this_program() + "/../libexec/plumberd",
        std::string(PLUMBERD_PREFIX "/libexec/plumberd")})
    if (const auto path = directory + "/" + name; ::access(path.c_str(), X_OK) == 0) return path;
  return {};
}

void Helper::start() {
  auto pair = ipc::socket_pair(SOCK_SEQPACKET);
  if (!pair) return rest(pair.error().text);
  state_ = State::starting;
  started_ = loop_.now();
  relayed_ = {};
  // The simplest helper is a loop around a blocking read; its end is its own to change.
  auto spawned = ipc::set_blocking(pair->second.borrow(), true);
  if (spawned) spawned = spawn(std::move(pair->second));
  if (!spawned) return rest(spawned.error().text);
  ipc::Channel::Handlers handlers{
      .on_request = [this](auto incoming) { on_request(std::move(incoming)); },
      .on_notification = [this](auto incoming) { on_notification(std::move(incoming)); },
      .on_closed = [this](const ipc::Error& why) { lost("closed its channel: " + why.text); }};
  // A helper is trusted with descriptors; its queue is bounded by the dials that may be under way.
  channel_ = std::make_unique<ipc::Channel>(
      loop_, ipc::StrangerFd{std::move(pair->first), SOCK_SEQPACKET}, std::move(handlers),
      ipc::ChannelLimits{.queued_messages = 32'768, .queued_bytes = 64 * 1024 * 1024, .unread_fds = 16'384});
  timer_ = ipc::Timer{loop_, hello_deadline, [this] { lost("did not say hello within 5 seconds"); }};
}

ipc::Result<> Helper::spawn(ipc::Fd end) {
  auto words = spec_.exec;
  if (words.empty()) words = {find_program(spec_.name)};
  if (words[0].empty())
    return ipc::fail(ipc::Word::no_helper, "is neither beside plumberd nor in libexec/plumberd");
  auto variables = environment_of(spec_);
  auto arguments = pointers(words);
  auto environment = pointers(variables);
  auto stdio = stdio_of(end.borrow());
  uv_process_options_t options{};
  options.file = arguments[0];
  options.args = arguments.data();
  options.env = environment.data();
  options.stdio = stdio.data();
  options.stdio_count = static_cast<int>(stdio.size());
  // A session of its own: Ctrl-C at the router's terminal must not cut the relays.
  options.flags = UV_PROCESS_DETACHED;
  options.exit_cb = on_exit;
  TRY(set_user(options, spec_.user));
  auto* process = new Process{.owner = this, .owner_alive = alive_};
  if (const int code = uv_spawn(loop_.raw(), &process->handle, &options); code < 0) {
    close_process(process);
    return ipc::fail(ipc::Word::no_helper, "cannot run " + words[0] + ": " + uv_strerror(code));
  }
  process_ = process;
  pid_ = process->handle.pid;
  return {};
}

void Helper::on_exit(uv_process_t* handle, std::int64_t status, int signal) {
  auto* process = reinterpret_cast<Process*>(handle);
  if (*process->owner_alive) {
    auto* owner = process->owner;
    const auto text = "(pid " + std::to_string(handle->pid) + ") " + fate(status, signal);
    if (owner->process_ == process)
      owner->lost(text);
    else
      owner->log_.info("helper " + owner->spec_.name + " " + text);
  }
  close_process(process);
}

void Helper::forget_processes(ipc::Loop& loop) {
  const auto forget = [](uv_handle_t* handle, void*) {
    if (handle->type == UV_PROCESS && uv_is_closing(handle) == 0)
      close_process(reinterpret_cast<Process*>(handle));
  };
  uv_walk(loop.raw(), forget, nullptr);
}

/// The process is gone, or as good as gone: whoever waits is told at once. One that only closed its channel
/// may be finishing its relays.
void Helper::lost(const std::string& why) {
  if (state_ == State::resting || state_ == State::idle) return;
  if (process_ != nullptr && state_ == State::starting) uv_process_kill(&process_->handle, SIGKILL);
  process_ = nullptr;
  pid_ = 0;
  rest(why);
}

void Helper::rest(const std::string& why) {
  log_.error("helper " + spec_.name + " " + why);
  const bool was_healthy = loop_.now() - started_ > healthy_after_ms;
  back_off_ = was_healthy ? first_rest : std::min(back_off_ * 2, longest_rest);
  ++restarts_;
  last_loss_ = why;
  state_ = State::resting;
  const auto alive = alive_;
  fail_all({ipc::Word::no_helper, "the helper " + spec_.name + " " + why}, false);
  if (!*alive) return;  // whoever was told has installed another configuration
  loop_.post([this, alive] {
    if (*alive && state_ == State::resting) channel_.reset();
  });
  timer_ = ipc::Timer{loop_, back_off_, [this] {
                        state_ = State::idle;
                        if (!listens_.empty() || !dials_.empty()) start();
                      }};
}

/// Everybody who waits is told, once. What they do about it may replace this object: nothing of it is touched
/// after the first was told.
void Helper::fail_all(const ipc::Error& reason, bool for_good) {
  const ipc::Error cut{ipc::Word::internal,
                       "the helper " + spec_.name + " went away while it dialled; try again"};
  auto dials = std::exchange(dials_, {});
  auto listeners = take_listeners(for_good);
  if (channel_) channel_->close({ipc::Word::internal, reason.text});
  for (auto& [id, dial] : dials) dial.done(std::unexpected(dial.call != 0 ? cut : reason));
  for (auto& done : listeners) done(std::unexpected(reason));
}

/// Those that never listened: whoever asked for them must know. The others are opened again after the
/// restart, if there is one.
std::vector<Helper::OnListening> Helper::take_listeners(bool all) {
  std::vector<OnListening> waiting;
  for (auto i = listens_.begin(); i != listens_.end();) {
    if (i->second.done) waiting.push_back(std::exchange(i->second.done, nullptr));
    i = all || i->second.actual.empty() ? listens_.erase(i) : std::next(i);
  }
  return waiting;
}

void Helper::release() {
  timer_.stop();
  process_ = nullptr;
  state_ = State::idle;
  fail_all({ipc::Word::no_helper, "the helper " + spec_.name + " was replaced or is going down; try again"},
           true);
  channel_.reset();
}
}  // namespace plumberd
