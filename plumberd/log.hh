// What the router says on stderr: text, JSON or journald's prefix, one line each.
#pragma once
#include <chrono>
#include <ctime>
#include <string>
#include <string_view>

#include "ipc/error.hh"

namespace plumberd {

enum class LogLevel : std::uint8_t { debug, info, warn, error };
enum class LogFormat : std::uint8_t { text, json, journal };

class Log {
 public:
  Log(LogLevel level, LogFormat format) : level_{level}, format_{format} {}
  Log(const Log&) = delete;
  ~Log() { flush(); }
  void debug(std::string_view text) { say(LogLevel::debug, text); }
  void info(std::string_view text) { say(LogLevel::info, text); }
  void warn(std::string_view text) { say(LogLevel::warn, text); }
  void error(std::string_view text) { say(LogLevel::error, text); }
  void say(LogLevel level, std::string_view text);
  /// A line that is whole already (an event): kept until `flush` or whatever is said next.
  void hold(LogLevel level, std::string_view text);
  void flush();
  std::size_t held() const { return held_.size(); }  ///< bytes
  bool shows(LogLevel level) const { return level >= level_; }
  LogFormat format() const { return format_; }

 private:
  void add_time();
  LogLevel level_;
  LogFormat format_;
  std::string held_;  ///< whole lines, with their ends
  std::time_t second_ = -1;
  std::string date_, zone_;  ///< of `second_`, in local time
};

}  // namespace plumberd
