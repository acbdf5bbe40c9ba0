// Decisions on their way to the log: bounded, and what was left out is said, whatever the level.
#include <criterion/criterion.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "plumberd/events.hh"

using namespace plumberd;

namespace {
/// What is written to standard error while this exists.
class Stderr {
 public:
  Stderr() : kept_{::dup(STDERR_FILENO)} { ::dup2(::fileno(file_), STDERR_FILENO); }
  ~Stderr() {
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
    std::fclose(file_);
  }
  std::string text() const {
    std::string text(static_cast<std::size_t>(::lseek(::fileno(file_), 0, SEEK_END)), '\0');
    const auto size = ::pread(::fileno(file_), text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return text;
  }

 private:
  std::FILE* file_ = std::tmpfile();
  int kept_;
};

void publish(Events& events, int count, Decision::Verdict verdict) {
  for (int i = 0; i < count; ++i) events.publish({.asked = "pong", .verdict = verdict});
}
}  // namespace

Test(events, that_were_suppressed_are_counted_in_the_log_even_if_none_follows) {
  ipc::Loop loop;
  Log log{LogLevel::error, LogFormat::text};
  Events events{loop, log};
  const Stderr written;
  publish(events, 50'000, Decision::Verdict::deny);
  loop.run();
  const auto text = written.text();
  const auto last = text.rfind('\n', text.size() - 2) + 1;
  cr_assert_neq(text.find("error: 10000 event lines were suppressed, 10000 of them denials", last), text.npos,
                "%s", text.substr(last).c_str());
}

Test(events, of_strangers_leave_what_was_decided_in_the_history) {
  ipc::Loop loop;
  Log log{LogLevel::error, LogFormat::text};
  Events events{loop, log};
  publish(events, 700, Decision::Verdict::allow);
  for (int i = 0; i < 5000; ++i) events.publish({.direction = Direction::in, .asked = std::to_string(i)});
  cr_assert_eq(events.history().size(), 700 + 256);
  cr_assert(events.history().front()->asked == "pong");
  cr_assert(events.history().back()->asked == "4999");
}

Test(events, of_denials_have_room_beside_a_flood_of_others) {
  ipc::Loop loop;
  Log log{LogLevel::info, LogFormat::text};
  Events events{loop, log};
  const Stderr written;
  publish(events, 30'000, Decision::Verdict::allow);
  publish(events, 1, Decision::Verdict::deny);
  cr_assert_neq(written.text().find(" deny "), std::string::npos);
  loop.run();
  cr_assert_neq(written.text().find("warning: 10000 event lines were suppressed, 0 of them denials"),
                std::string::npos);
}

Test(log, every_line_for_the_journal_has_its_priority) {
  Log log{LogLevel::info, LogFormat::journal};
  const Stderr written;
  log.error("p.toml:1:1: error: no\n    rules = [\"\"]");
  cr_assert_eq(written.text(), "<3>error: p.toml:1:1: error: no\n<3>    rules = [\"\"]\n");
}
