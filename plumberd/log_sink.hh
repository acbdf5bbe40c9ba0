// Where lines of the log go, without ever waiting for whoever reads them.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "ipc/loop.hh"

namespace plumberd {

/// A file takes every line at once. A pipe, a socket (journald's is one) or a terminal may be full: up to 1
/// MiB is kept until it takes more, and lines beyond that are counted and lost.
class LogSink {
 public:
  /// `fd` stays the caller's. `told`: how many lines were lost, once there is room for it.
  LogSink(int fd, std::function<void(std::uint64_t lost)> told);
  LogSink(const LogSink&) = delete;
  /// What is kept has a second to leave.
  ~LogSink();
  /// From now on what is kept leaves by itself; before, with the next line.
  void attach(ipc::Loop& loop) { loop_ = &loop; }
  /// No longer: the loop ends.
  void detach();
  /// One line, with its end.
  void write(std::string_view line);

 private:
  enum class Kind : std::uint8_t { file, stream, socket };
  static Kind kind_of(int fd);
  std::size_t put(std::string_view text) const;
  ssize_t put_some(std::string_view text) const;
  bool is_writable(int timeout_ms) const;
  void flush();
  void tell();
  void watch();

  int fd_;
  Kind kind_;
  std::function<void(std::uint64_t)> told_;
  std::string kept_;
  std::uint64_t lost_ = 0;
  ipc::Loop* loop_ = nullptr;
  ipc::Poll poll_;
};

}  // namespace plumberd
