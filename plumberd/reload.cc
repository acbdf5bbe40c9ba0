#include "plumberd/reload.hh"

namespace plumberd {
namespace {
constexpr std::size_t most_waiting = 16;
}

/// What libuv's worker thread reads and writes; nothing else touches it meanwhile.
struct Reloader::Job {
  uv_work_t work{};
  Reloader* owner = nullptr;
  std::shared_ptr<bool> owner_alive{};
  Arguments arguments{};
  Loaded outcome{};
  Wish wish{};
};

void Reloader::begin(std::shared_ptr<Config> config, std::function<void(ipc::Result<>)> done) {
  busy_ = true;
  router_.install(std::move(config), [this, done = std::move(done)](ipc::Result<> installed) {
    const bool is_installed = installed.has_value();
    done(std::move(installed));
    busy_ = false;
    if (is_installed) start_next();
  });
}

void Reloader::reload(unsigned confirm_seconds, Done done) {
  if (waiting_.size() >= most_waiting)
    return done({.error = ipc::Error{ipc::Word::busy, "16 reloads are waiting already"}});
  waiting_.push_back({confirm_seconds, std::move(done)});
  if (!busy_) start_next();
}

void Reloader::start_next() {
  if (waiting_.empty()) return;
  busy_ = true;
  auto* job = new Job{.owner = this,
                      .owner_alive = alive_,
                      .arguments = router_.arguments,
                      .wish = std::move(waiting_.front())};
  waiting_.pop_front();
  job->work.data = job;
  const auto work = [](uv_work_t* request) {
    auto* self = static_cast<Job*>(request->data);
    self->outcome = load(self->arguments, Strictness::check);
  };
  const auto after = [](uv_work_t* request, int) {
    const std::unique_ptr<Job> self{static_cast<Job*>(request->data)};
    if (*self->owner_alive) self->owner->loaded(std::move(self->outcome), std::move(self->wish));
  };
  uv_queue_work(router_.loop.raw(), &job->work, work, after);
}

void Reloader::loaded(Loaded outcome, Wish wish) {
  if (!outcome.config)
    return finish(wish, {.error = ipc::Error{ipc::Word::bad_request,
                                             "the new configuration is refused, the old one stays"},
                         .diagnostics = std::move(outcome.diagnostics)});
  const auto before = router_.config;
  router_.install(std::move(outcome.config), [this, wish, before,
                                              notes = outcome.diagnostics](ipc::Result<> installed) {
    if (!installed)
      return finish(wish, {.error = ipc::Error{ipc::Word::bad_request,
                                               installed.error().text + "; the old configuration stays"}});
    if (wish.confirm_seconds > 0) {
      if (!rollback_) previous_ = before;
      rollback_ =
          ipc::Timer{router_.loop, std::chrono::seconds{wish.confirm_seconds}, [this] { roll_back(); }};
    } else {
      rollback_.stop();
      previous_.reset();
    }
    finish(wish, {.diagnostics = notes, .generation = router_.config->generation});
  });
}

void Reloader::finish(const Wish& wish, Reloaded outcome) {
  for (const auto& diagnostic : outcome.diagnostics)
    outcome.error ? router_.log.error(diagnostic.print()) : router_.log.warn(diagnostic.print());
  if (outcome.error)
    router_.log.error("reload: " + outcome.error->text);
  else
    router_.log.info("reload: generation " + std::to_string(outcome.generation));
  wish.done(outcome);
  busy_ = false;
  start_next();
}

ipc::Result<> Reloader::confirm() {
  if (!rollback_) return ipc::fail(ipc::Word::bad_request, "no reload waits for confirmation");
  rollback_.stop();
  previous_.reset();
  return {};
}

void Reloader::roll_back() {
  if (busy_) {  // after the reload under way
    rollback_ = ipc::Timer{router_.loop, std::chrono::milliseconds{100}, [this] { roll_back(); }};
    return;
  }
  rollback_.stop();
  busy_ = true;
  auto previous = std::make_shared<Config>(*std::exchange(previous_, nullptr));
  router_.log.warn("the reload was not confirmed: back to the configuration before it");
  router_.install(std::move(previous), [this](ipc::Result<> done) {
    if (!done) router_.log.error("the roll-back failed: " + done.error().text);
    busy_ = false;
    start_next();
  });
}
}  // namespace plumberd
