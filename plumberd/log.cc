#include "plumberd/log.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "ipc/json.hh"
#include "plumberd/decision.hh"

namespace plumberd {
namespace {
std::string_view name_of(LogLevel level) {
  constexpr std::string_view names[] = {"debug", "info", "warning", "error"};
  return names[static_cast<std::size_t>(level)];
}

/// sd-daemon(3): journald takes the syslog priority from a "<N>" in front of the line.
std::string_view journal_prefix(LogLevel level) {
  constexpr std::string_view prefixes[] = {"<7>", "<6>", "<4>", "<3>"};
  return prefixes[static_cast<std::size_t>(level)];
}

std::string formatted(const std::tm& time, const char* format) {
  std::array<char, 32> text;
  return {text.data(), std::strftime(text.data(), text.size(), format, &time)};
}
}  // namespace

Log::Log(LogLevel level, LogFormat format)
    : level_{level},
      format_{format},
      sink_{STDERR_FILENO, [this](std::uint64_t lost) {
              error(std::to_string(lost) + " lines of the log were lost: whoever reads it does not keep up");
            }} {}

void Log::say(LogLevel level, std::string_view text) {
  if (!shows(level)) return;
  if (format_ != LogFormat::json)
    return line(level, std::string(name_of(level)) + ": " + std::string(text), false);
  std::string json;
  ipc::JsonWriter{json}
      .object()
      .add("time", rfc3339(std::chrono::system_clock::now()))
      .add("level", name_of(level))
      .add("message", text)
      .end();
  line(level, json, false);
}

void Log::line(LogLevel level, std::string_view text, bool always) {
  if (!always && !shows(level)) return;
  buffer_.clear();
  if (format_ == LogFormat::text) add_time();
  if (format_ == LogFormat::journal) buffer_ += journal_prefix(level);
  add_text(level, text);
  sink_.write(buffer_);
}

/// For the journal each line of it has its priority.
void Log::add_text(LogLevel level, std::string_view text) {
  if (format_ == LogFormat::journal)
    for (auto end = text.find('\n'); end != text.npos; end = text.find('\n')) {
      (buffer_ += text.substr(0, end + 1)) += journal_prefix(level);
      text.remove_prefix(end + 1);
    }
  (buffer_ += text) += '\n';
}

/// RFC 3339 in local time with milliseconds; the calendar is asked once a second.
void Log::add_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  if (const std::time_t second = ms / 1000; second != std::exchange(second_, second)) {
    std::tm parts{};
    ::localtime_r(&second, &parts);
    date_ = formatted(parts, "%Y-%m-%dT%H:%M:%S.");
    zone_ = formatted(parts, "%z ").insert(3, ":");
  }
  const fmt::format_int thousandths{ms % 1000 + 1000};
  ((buffer_ += date_) += std::string_view(thousandths.data() + 1, 3)) += zone_;
}
}  // namespace plumberd
