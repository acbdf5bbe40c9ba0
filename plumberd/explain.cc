#include "plumberd/explain.hh"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "ipc/name.hh"

namespace plumberd {
namespace {
/// Why each rule that nearly matched did not, and which one decided.
void explain_rules(const Config& config, const Target& target, const Judged& judged, const Asker& asker,
                   Decision& decision) {
  auto question = question_of(target);
  if (judged.recorded) question.address = &*judged.recorded;
  add_considered(decision, consider(*config.rules, question, asker.facts()));
}

/// Of whoever bound the service's socket, as far as the file tells without connecting.
bool file_owner_may_serve(const Router& router, const Config& config, const Target& target,
                          Decision& decision) {
  struct stat status {};
  if (target.kind != Target::Kind::local || router.registry.has(target.service)) return true;
  if (::lstat(router.rundir.file(target.service).c_str(), &status) != 0) return true;
  Facts facts;
  facts.uid = status.st_uid;
  facts.is_owner = status.st_uid == 0 || status.st_uid == ::geteuid();
  return owner_may_serve(config, target.service, Asker{std::move(facts)}, decision);
}

/// The first target that is allowed would be opened; where none is, the last denial is the answer.
void explain_targets(Router& router, const Config& config, const Routed& routed, Asker& asker,
                     Decision& decision) {
  for (const auto& target : routed.targets) {
    auto judged = judge_target(config, target, asker, decision);
    explain_rules(config, target, judged, asker, decision);
    if (judged.allowed && is_strangers_path(target, asker))
      if (const auto real = real_path(target.uri.path))
        judged.allowed = judge_end(config, target, *real, asker, decision);
    judged.allowed = judged.allowed && file_owner_may_serve(router, config, target, decision);
    const auto* helper = router.helpers.current()->name_for(target.uri.scheme);
    if (target.kind == Target::Kind::uri) decision.helper = helper != nullptr ? *helper : "";
    if (judged.resolve)
      decision.steps.push_back(
          {"undecided", target.uri.host, "the resolved address is judged when it is dialled", ""});
    decision.failed = !judged.allowed || (target.kind == Target::Kind::uri && helper == nullptr);
    if (!decision.failed) return;
    decision.error = judged.allowed
                         ? ipc::Error{ipc::Word::no_helper, "no helper speaks " + target.uri.scheme}
                         : denial(decision, config.denied_detail || asker.is_owner());
  }
}
}  // namespace

Decision explain(Router& router, const Ask& ask, Asker asker) {
  Decision decision;
  const auto config = router.config;
  router.events.stamp(decision);
  decision.generation = config->generation;
  decision.asked = ipc::printable(ask.service.empty() ? ipc::mask_secrets(ask.uri) : ask.service);
  decision.opened = ipc::printable(ask.service);
  decision.client = asker.who();
  auto routed = route_of(*config, ask, [&router](std::string_view name) { return router.is_local(name); });
  if (!routed) {
    decision.failed = true;
    decision.error = std::move(routed).error();
    return decision;
  }
  decision.steps = routed->steps;
  explain_targets(router, *config, *routed, asker, decision);
  return decision;
}
namespace {
bool passes_on(const Config& config, std::string_view scheme) {
  return std::ranges::any_of(config.listens, [&](const Listen& listen) {
    return listen.transit && listen.uri.starts_with(std::string(scheme) + "://");
  });
}

/// What a transit listener would do next: `out`, as no user.
void explain_transit(Router& router, Decision& decision) {
  auto onward = explain(router, {.service = decision.opened, .transit = true}, Asker{Facts{}});
  std::ranges::move(onward.steps, std::back_inserter(decision.steps));
  decision.failed = onward.failed;
  decision.error = std::move(onward.error);
  decision.peer = std::move(onward.peer);
}

void explain_opening(Router& router, const Target& target, bool transit, Decision& decision) {
  const bool here = target.kind == Target::Kind::local && router.is_local(decision.opened);
  if (here || target.kind == Target::Kind::path) return;
  if (transit) return explain_transit(router, decision);
  decision.failed = true;
  decision.error = {ipc::Word::unknown_service, decision.opened + " is not offered here"};
}
}  // namespace

Decision explain_in(Router& router, const std::string& service, Asker asker, Question question) {
  Decision decision{.generation = router.config->generation, .direction = Direction::in, .asked = service};
  router.events.stamp(decision);
  const bool transit = passes_on(*router.config, question.scheme);
  auto routed =
      route(*router.config,
            {.service = service, .from_outside = true, .transit = transit, .is_local = [](std::string_view) {
               return true;
             }});
  if (!routed) {
    decision.failed = true;
    decision.error = std::move(routed).error();
    return decision;
  }
  const auto& target = routed->targets.front();
  decision.steps = routed->steps;
  decision.opened = target.service;
  question.service = decision.opened;
  record(decision, asker.judge(*router.config->rules, question));
  add_considered(decision, consider(*router.config->rules, question, asker.facts()));
  decision.failed = decision.verdict == Decision::Verdict::deny;
  if (decision.failed)
    decision.error = denial(decision, true);
  else
    explain_opening(router, target, transit, decision);
  return decision;
}

}  // namespace plumberd
