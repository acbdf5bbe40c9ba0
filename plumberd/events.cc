#include "plumberd/events.hh"

#include <algorithm>

namespace plumberd {
namespace {
constexpr std::size_t history_size = 1024;
// More lines than this in a second are counted, not written: a client in a loop must not fill the disk.
// Denials have as much again.
constexpr unsigned lines_per_second = 20'000;
}  // namespace

void Events::stamp(Decision& decision) {
  decision.id = next_id_++;
  decision.time = std::chrono::system_clock::now();
}

/// Half of the room is everybody else's: no user can hide what others did behind a flood of its own.
bool Events::may_write(const Decision& decision, bool denial) {
  const auto second = loop_.now() / 1000;
  if (std::exchange(second_, second) != second) {
    written_ = 0;
    written_of_.clear();
  }
  unsigned anonymous = 0;
  auto& own = decision.client.known ? written_of_[decision.client.uid] : anonymous;
  if (written_ < (denial ? 2 * lines_per_second : lines_per_second) && own < lines_per_second) {
    ++written_;
    ++own;
    return true;
  }
  if (suppressed_ == 0) tell_ = ipc::Timer{loop_, ipc::Milliseconds{1000}, [this] { tell_suppressed(); }};
  ++suppressed_;
  suppressed_denials_ += denial ? 1 : 0;
  return false;
}

/// Lost denials are an error: no log level hides that.
void Events::tell_suppressed() {
  tell_.stop();
  const auto count = std::exchange(suppressed_, 0), denials = std::exchange(suppressed_denials_, 0);
  log_.say(denials > 0 ? LogLevel::error : LogLevel::warn,
           std::to_string(count) + " event lines were suppressed, " + std::to_string(denials) +
               " of them denials (more than " + std::to_string(lines_per_second) + " lines in a second)");
}

void Events::write(const Decision& decision) {
  const bool denial = decision.verdict == Decision::Verdict::deny || !decision.audited.empty();
  const auto level = denial || decision.failed ? LogLevel::warn : LogLevel::info;
  if (!denial && !log_.shows(level)) return;
  if (!may_write(decision, denial)) return;
  log_.line(level, log_.format() == LogFormat::json ? to_json(decision) : to_line(decision), denial);
}

/// Strangers who do not get as far as a rule must not push out what was decided.
void Events::keep(Event event) {
  constexpr std::ptrdiff_t most_strangers = history_size / 4;
  const auto is_stranger = [](const Event& e) {
    return e->direction == Direction::in && e->verdict == Decision::Verdict::none;
  };
  if (is_stranger(event) && std::ranges::count_if(history_, is_stranger) >= most_strangers)
    history_.erase(std::ranges::find_if(history_, is_stranger));
  history_.push_back(std::move(event));
  if (history_.size() > history_size) history_.pop_front();
}

void Events::publish(Decision decision) {
  write(decision);
  const auto event = std::make_shared<const Decision>(std::move(decision));
  keep(event);
  for (auto i = listeners_.begin(); i != listeners_.end();) (*i++)(event);
}

Events::Subscription Events::subscribe(Listener listener) {
  listeners_.push_front(std::move(listener));
  return Subscription{this, listeners_.begin()};
}
}  // namespace plumberd
