// Closing what may make close(2) wait, in threads of their own.
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "ipc/fd.hh"

namespace ipc {
namespace {
/// One thread, and one more for each that hangs: what waits behind it shall not.
class Closers {
 public:
  void take(std::vector<Fd> fds) {
    const std::lock_guard lock{mutex_};
    for (auto& fd : fds) waiting_.push_back(std::move(fd));
    if (idle_ < waiting_.size() && threads_ < most_threads) start();
    ready_.notify_one();
  }

 private:
  static constexpr std::size_t most_threads = 64;

  /// Signals are for the others. Without memory for a thread they wait for the next time.
  void start() {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      std::thread{[this] { run(); }}.detach();
      ++threads_;
    } catch (const std::system_error&) {}
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void run() {
    std::unique_lock lock{mutex_};
    while (wait(lock)) {
      auto fd = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      fd = Fd{};
      lock.lock();
    }
    --threads_;
  }

  bool wait(std::unique_lock<std::mutex>& lock) {
    constexpr std::chrono::seconds patience{10};
    ++idle_;
    const bool is_there = ready_.wait_for(lock, patience, [this] { return !waiting_.empty(); });
    --idle_;
    return is_there;
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Fd> waiting_;
  std::size_t threads_ = 0;
  std::size_t idle_ = 0;
};
}  // namespace

void close_apart(std::vector<Fd> fds) {
  static auto& closers = *new Closers;  // threads may outlive main
  const linger none{};                  // what is in our hands need not keep a thread busy
  for (const auto& fd : fds) ::setsockopt(fd.borrow(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
  if (!fds.empty()) closers.take(std::move(fds));
}
}  // namespace ipc
