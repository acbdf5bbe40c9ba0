#include "plumb/output.hh"

#include <poll.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "ipc/name.hh"

namespace plumb {
namespace {
constexpr std::size_t longest_sentence = 1024;

/// False when it cannot be written.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EAGAIN) {  // somebody else made it non-blocking
      pollfd state{.fd = fd, .events = POLLOUT, .revents = 0};
      ::poll(&state, 1, -1);
    } else if (count < 0 && errno != EINTR) {
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
  }
  return true;
}

void write_error(ipc::JsonWriter& json, const ipc::Error& failure, ipc::JsonView data) {
  json.object().key("error").object();
  json.add("code", to_string(failure.word)).add("message", failure.text);
  json.add_if("rule", failure.rule).add_if("at", failure.at);
  if (failure.far) json.add("far", true);
  for (const std::string_view more : {"decision", "errors", "retry_after_ms"})
    if (data[more].exists()) json.key(more).raw(data[more].text());
  json.end().end();
}

std::string sentence(const ipc::Error& failure) {
  auto text = std::string(to_string(failure.word)) + ": " + ipc::printable(failure.text, longest_sentence);
  const bool has_rule = !failure.rule.empty() && failure.text.find(failure.rule) == std::string::npos;
  if (has_rule)
    text += " (rule \"" + ipc::printable(failure.rule) + "\" at " + ipc::printable(failure.at) + ")";
  return text;
}
}  // namespace

void put(std::string_view text) {
  if (!write_all(STDOUT_FILENO, text)) std::exit(exit_status_of(ipc::Word::internal));
}
void put_line(std::string_view text) { put(std::string(text) + "\n"); }

/// Where nobody can be told, what is done and how it ends stay the same.
void complain(std::string_view text) {
  static_cast<void>(write_all(STDERR_FILENO, "plumb: " + std::string(text) + "\n"));
}

int fail_with(const Request& request, const ipc::Error& failure, ipc::JsonView data) {
  if (request.json) {
    std::string text;
    ipc::JsonWriter json{text};
    write_error(json, failure, data);
    put_line(text);
  } else {
    complain(sentence(failure));
  }
  return exit_status_of(failure.word);
}

int fail_usage(bool json, std::string_view text) {
  const ipc::Error failure{ipc::Word::bad_request, std::string(text)};
  if (json) return fail_with(Request{.json = true}, failure);
  complain(text);
  return exit_status_of(failure.word);
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths.resize(std::max(widths.size(), i + 1));
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string shown_ms(double ms) {
  std::array<char, 32> text{};
  const char* format = ms >= 1000 ? "%.1f s" : ms >= 10 ? "%.0f ms" : "%.2f ms";
  std::snprintf(text.data(), text.size(), format, ms >= 1000 ? ms / 1000 : ms);
  return text.data();
}

std::string user_name(std::int64_t uid) {
  std::array<char, 4096> room;
  passwd entry{};
  passwd* found = nullptr;
  ::getpwuid_r(static_cast<uid_t>(uid), &entry, room.data(), room.size(), &found);
  return found != nullptr ? found->pw_name : std::to_string(uid);
}

bool Asked::ok() const { return answer && answer->message.kind == ipc::rpc::Message::Kind::result; }

Asked ask_router(const Request& request, std::string_view method, std::string_view params) {
  const ipc::Deadline deadline{request.patience()};
  auto router = ipc::find_router(request.rundir, deadline);
  if (!router.door) return {std::unexpected(std::move(router.door).error())};
  return {router.door->ask(method, params, deadline)};
}

int fail_with(const Request& request, const Asked& asked) {
  if (!asked.answer) return fail_with(request, asked.answer.error());
  return fail_with(request, asked.answer->message.failure, asked.answer->message.error_data);
}
}  // namespace plumb
