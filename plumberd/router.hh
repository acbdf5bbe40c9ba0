// The rooms of the router and how they are wired; requests and doors are given this.
#pragma once
#include <functional>
#include <memory>

#include "plumberd/accounts.hh"
#include "plumberd/admissions.hh"
#include "plumberd/config.hh"
#include "plumberd/events.hh"
#include "plumberd/helpers.hh"
#include "plumberd/listeners.hh"
#include "plumberd/registry.hh"
#include "plumberd/resolver_share.hh"
#include "plumberd/rundir.hh"
#include "plumberd/stats.hh"
#include "plumberd/warm.hh"

namespace plumberd {

struct Router {
  Router(ipc::Loop& loop, Log& log, RunDir rundir, Arguments arguments, std::shared_ptr<Config> config);
  Router(const Router&) = delete;
  ~Router();

  /// Swaps the configuration in: helpers, listeners and pools follow; requests under way keep the one they
  /// started with. On error (a listener that cannot be bound) the old one stays whole.
  void install(std::shared_ptr<Config> next, std::function<void(ipc::Result<>)> done);
  /// Whether a service of this name is offered here: guarded, or a socket in the run directory.
  bool is_local(std::string_view service) const;
  /// The end of a decision: what came of it is noted, counted, kept and logged.
  void conclude(Decision decision, const ipc::Result<>& outcome);

  ipc::Loop& loop;
  Log& log;
  RunDir rundir;
  const Arguments arguments;
  std::shared_ptr<const Config> config;
  std::uint64_t generation = 0;
  Stats stats;
  Accounts accounts;
  ResolverShare resolvers;
  Events events;
  Admissions admissions;
  Registry registry;
  Helpers helpers;
  Listeners listeners;
  WarmPools warm;
};

}  // namespace plumberd
