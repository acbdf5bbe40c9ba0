#include "plumberd/log.hh"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "ipc/json.hh"

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
}  // namespace

Log::Log(LogLevel level, LogFormat format) : level_{level}, format_{format} {
  logger_ = std::make_shared<spdlog::logger>("plumberd", std::make_shared<spdlog::sinks::stderr_sink_st>());
  logger_->set_level(spdlog::level::trace);
  logger_->set_pattern(format == LogFormat::text ? "%Y-%m-%dT%H:%M:%S.%e%z %v" : "%v");
}

Log::~Log() = default;

void Log::say(LogLevel level, std::string_view text) {
  if (!shows(level)) return;
  if (format_ != LogFormat::json)
    return line(level, std::string(name_of(level)) + ": " + std::string(text), false);
  std::string json;
  ipc::JsonWriter{json}.object().add("level", name_of(level)).add("message", text).end();
  line(level, json, false);
}

void Log::line(LogLevel level, std::string_view text, bool always) {
  if (!always && !shows(level)) return;
  if (format_ == LogFormat::journal) {
    logger_->info("{}{}", journal_prefix(level), text);
  } else {
    logger_->info("{}", text);
  }
}
}  // namespace plumberd
