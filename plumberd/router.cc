#include "plumberd/router.hh"

#include <sys/stat.h>

#include "plumberd/plan.hh"

namespace plumberd {
namespace {
/// A local client connected to a guarded service's socket: judged, then passed on as it is, so that
/// SO_PEERCRED stays the client's.
void pass_on(Router& router, const std::string& service, ipc::StrangerFd socket) {
  auto identity = Identity::of_peer(socket.borrow());
  if (!identity) return;
  const auto config = router.config;
  Decision decision{
      .generation = config->generation, .direction = Direction::local, .asked = service, .opened = service};
  router.events.stamp(decision);
  const auto verdict =
      judge_as(*config->rules, {.direction = Direction::local, .service = service}, *identity);
  record(decision, verdict);
  decision.client = identity->who();
  const auto ticket = router.accounts.begin_request(identity->uid(), config->limits, router.loop.now());
  auto outcome = ipc::set_blocking(socket.borrow(), true);
  if (!ticket) outcome = std::unexpected(ticket.error());
  if (verdict.kind != Verdict::Kind::allow) outcome = std::unexpected(denial(decision, true));
  const ipc::Labels labels{
      {"service", service}, {"scheme", "unix"}, {"client.uid", std::to_string(identity->uid())}};
  if (outcome) outcome = router.registry.deliver(service, socket.borrow(), labels);
  if (outcome) static_cast<void>(std::move(socket).take());  // it is the service's: it stays as it is
  decision.path = outcome ? "direct" : "";
  router.conclude(std::move(decision), outcome);
}
}  // namespace

Router::Router(ipc::Loop& loop_, Log& log_, RunDir rundir_, Arguments arguments_,
               std::shared_ptr<Config> config_)
    : loop{loop_},
      log{log_},
      rundir{std::move(rundir_)},
      arguments{std::move(arguments_)},
      config{std::move(config_)},
      resolvers{loop},
      events{loop, log},
      admissions{*this},
      registry{loop, rundir,
               [this](const std::string& service, ipc::StrangerFd socket) {
                 pass_on(*this, service, std::move(socket));
               }},
      helpers{loop,
              log,
              {.on_accepted =
                   [this](Inbound request, Admissions::Answer answer) {
                     admissions.admit(std::move(request), std::move(answer));
                   },
               .on_failed =
                   [this](Inbound connection, ipc::Error error) {
                     admissions.note_failure(std::move(connection), std::move(error));
                   },
               .on_deliver = [this](Delivery delivery) { admissions.deliver(std::move(delivery)); },
               .on_void = [this](const std::string& token) { admissions.expire(token); },
               .on_relayed = [this](const std::string& name, Relayed more) { stats.count(name, more); }}},
      listeners{loop},
      warm{*this} {}

Router::~Router() = default;

bool Router::is_local(std::string_view service) const {
  struct stat status {};
  return registry.has(service) ||
         (::lstat(rundir.file(service).c_str(), &status) == 0 && S_ISSOCK(status.st_mode));
}

void Router::conclude(Decision decision, const ipc::Result<>& outcome) {
  decision.failed = !outcome;
  if (!outcome) decision.error = outcome.error();
  stats.count(decision);
  events.publish(std::move(decision));
}

void Router::install(std::shared_ptr<Config> next, std::function<void(ipc::Result<>)> done) {
  next->generation = generation + 1;
  auto prepared = helpers.prepare(*next);
  listeners.prepare(*next, *prepared, [this, next, prepared, done = std::move(done)](ipc::Result<> opened) {
    if (!opened) {
      listeners.restore();
      helpers.drop(prepared, *config);
      return done(std::move(opened));
    }
    listeners.commit();
    generation = next->generation;
    config = next;
    helpers.adopt(prepared);
    warm.refill();
    done({});
  });
}
}  // namespace plumberd
