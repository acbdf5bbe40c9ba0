// What the router says on stderr: text, JSON or journald's prefix, one line each.
#pragma once
#include <chrono>
#include <ctime>
#include <string>
#include <string_view>

#include "ipc/error.hh"
#include "plumberd/log_sink.hh"

namespace plumberd {

enum class LogLevel : std::uint8_t { debug, info, warn, error };
enum class LogFormat : std::uint8_t { text, json, journal };

class Log {
 public:
  Log(LogLevel level, LogFormat format);
  /// From now on no line waits for a later one to leave, until `detach`.
  void attach(ipc::Loop& loop) { sink_.attach(loop); }
  void detach() { sink_.detach(); }
  void info(std::string_view text) { say(LogLevel::info, text); }
  void warn(std::string_view text) { say(LogLevel::warn, text); }
  void error(std::string_view text) { say(LogLevel::error, text); }
  void say(LogLevel level, std::string_view text);
  /// A line that is whole already (an event); denials pass whatever the level is.
  void line(LogLevel level, std::string_view text, bool always);
  bool shows(LogLevel level) const { return level >= level_; }
  LogFormat format() const { return format_; }

 private:
  void add_time();
  void add_text(LogLevel level, std::string_view text);
  LogLevel level_;
  LogFormat format_;
  LogSink sink_;
  std::string buffer_;  ///< what is written next; kept for its memory
  std::time_t second_ = -1;
  std::string date_, zone_;  ///< of `second_`, in local time
};

}  // namespace plumberd
