#include "plumberd/log_sink.hh"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "ipc/deadline.hh"

namespace plumberd {
namespace {
constexpr std::size_t most_kept = 1 << 20;
constexpr ipc::Milliseconds patience_at_end{1000};
}  // namespace

LogSink::Kind LogSink::kind_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Kind::file;
  if (S_ISSOCK(status.st_mode)) return Kind::socket;
  return S_ISFIFO(status.st_mode) || ::isatty(fd) == 1 ? Kind::stream : Kind::file;
}

LogSink::LogSink(int fd, std::function<void(std::uint64_t)> told)
    : fd_{fd}, kind_{kind_of(fd)}, told_{std::move(told)} {}

LogSink::~LogSink() {
  detach();
  const ipc::Deadline deadline{patience_at_end};
  while (!kept_.empty() && is_writable(deadline.poll_timeout())) kept_.erase(0, put(kept_));
}

void LogSink::detach() {
  poll_.stop();
  loop_ = nullptr;
}

void LogSink::write(std::string_view line) {
  if (!kept_.empty() && !poll_) flush();
  const auto taken = kept_.empty() ? put(line) : 0;
  if (taken == line.size()) return tell();
  if (kept_.size() + line.size() > most_kept) {
    ++lost_;
    return;
  }
  kept_ += line.substr(taken);
  watch();
}

/// Writes a line itself: the last thing of every call.
void LogSink::tell() {
  if (kept_.empty() && lost_ > 0) told_(std::exchange(lost_, 0));
}

void LogSink::watch() {
  if (loop_ == nullptr || poll_) return;
  poll_ = ipc::Poll{*loop_, fd_, UV_WRITABLE, [this](int) {
                      flush();
                      tell();
                    }};
}

void LogSink::flush() {
  kept_.erase(0, put(kept_));
  if (kept_.empty()) poll_.stop();
}

/// How much was taken; all of it, where nobody is there to read it: the router goes on.
std::size_t LogSink::put(std::string_view text) const {
  std::size_t taken = 0;
  while (taken < text.size()) {
    const auto count = put_some(text.substr(taken));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return taken;
    if (count <= 0) return text.size();
    taken += static_cast<std::size_t>(count);
  }
  return taken;
}

/// The descriptor is shared with others, who may not expect it to be non-blocking. A pipe that is writable
/// takes PIPE_BUF bytes without waiting (pipe(7)).
ssize_t LogSink::put_some(std::string_view text) const {
  if (kind_ == Kind::socket) return ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (kind_ == Kind::file) return ::write(fd_, text.data(), text.size());
  if (is_writable(0)) return ::write(fd_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
  errno = EAGAIN;
  return -1;
}

bool LogSink::is_writable(int timeout_ms) const {
  pollfd state{.fd = fd_, .events = POLLOUT, .revents = 0};
  return ::poll(&state, 1, timeout_ms) > 0;
}
}  // namespace plumberd
