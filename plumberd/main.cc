// plumberd(8): parse, take the run directory, wire the rooms, open the doors, run.
#include <signal.h>
#include <sys/resource.h>

#include <iostream>
#include <memory>

#include "plumberd/lookup_door.hh"
#include "plumberd/metrics_door.hh"
#include "plumberd/native_door.hh"
#include "plumberd/options.hh"
#include "plumberd/principals.hh"
#include "plumberd/reload.hh"
#include "plumberd/router.hh"

namespace {
using namespace plumberd;
constexpr int exit_refused = 7;

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// A SIGHUP that comes before there is somebody to take it must not end the process.
void hold_back_reloads(bool hold) {
  sigset_t hangup;
  ::sigemptyset(&hangup);
  ::sigaddset(&hangup, SIGHUP);
  ::sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &hangup, nullptr);
}

int complain(const std::string& what) {
  std::cerr << "plumberd: " << what << "\n";
  return 1;
}

struct Doors {
  NativeDoor native;
  LookupDoor libipc_07;
  LookupDoor libipc_1;
  MetricsDoor metrics;
};

ipc::Result<std::unique_ptr<Doors>> open_doors(Router& router, Reloader& reloader) {
  auto native = TRY(router.rundir.bind("plumberd", SOCK_SEQPACKET));
  auto network = TRY(router.rundir.bind("network", SOCK_STREAM));
  auto v1 = TRY(router.rundir.bind("ipc", SOCK_STREAM));
  auto metrics = TRY(router.rundir.bind("plumberd.metrics", SOCK_STREAM));
  return std::unique_ptr<Doors>(
      new Doors{.native = NativeDoor{router, reloader, std::move(native)},
                .libipc_07 = LookupDoor{router, std::move(network), ipc::Framing::ipc07},
                .libipc_1 = LookupDoor{router, std::move(v1), ipc::Framing::ipc1},
                .metrics = MetricsDoor{router, std::move(metrics)}});
}

int run(const Options& options, std::shared_ptr<Config> config) {
  Log log{options.log_level, options.log_format};
  ipc::Loop loop;
  log.attach(loop);
  auto rundir = RunDir::take(find_rundir(options.rundir));
  if (!rundir) return complain(rundir.error().text);
  Router router{loop, log, std::move(*rundir), options.arguments, config};
  Reloader reloader{router};
  std::unique_ptr<Doors> doors;
  int status = 0;
  const auto give_up = [&](const std::string& what) {
    status = complain(what);
    loop.stop();
  };
  const ipc::Signal term{loop, SIGTERM, [&] { loop.stop(); }};
  const ipc::Signal interrupt{loop, SIGINT, [&] { loop.stop(); }};
  const ipc::Signal hangup{loop, SIGHUP, [&] { reloader.reload(0, [](const Reloaded&) {}); }};
  hold_back_reloads(false);
  reloader.begin(config, [&](ipc::Result<> ready) {
    if (!ready) return give_up(ready.error().text);
    auto opened = open_doors(router, reloader);
    if (!opened) return give_up(opened.error().text);
    doors = std::move(*opened);
    log.info("ready in " + router.rundir.path());
  });
  if (status == 0) loop.run();
  router.rundir.remove_all();
  doors.reset();
  router.helpers.release_all();
  log.detach();  // it outlives the loop
  return status;
}
}  // namespace

int main(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
  if (!options) return options.error();
  ::signal(SIGPIPE, SIG_IGN);
  hold_back_reloads(true);
  raise_descriptor_limit();
  auto loaded = load(options->arguments, options->check ? Strictness::check : Strictness::boot);
  for (const auto& diagnostic : loaded.diagnostics) std::cerr << diagnostic.print() << "\n";
  if (!loaded.config) return exit_refused;
  if (const auto* rule = options->check ? rule_without_exe(*loaded.config) : nullptr)
    std::cerr << rule->at() << ": warning: " << exe_note << "\n";
  return options->check ? 0 : run(*options, std::move(loaded.config));
}
