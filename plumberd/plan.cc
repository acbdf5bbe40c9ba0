#include "plumberd/plan.hh"

#include <algorithm>

#include "ipc/name.hh"

namespace plumberd {
namespace {
Direction direction_of(const Target& target) {
  return target.kind == Target::Kind::uri ? Direction::out : Direction::local;
}

/// What connect(2) makes of it: the unspecified address leads to loopback.
ipc::Address reached_by(const ipc::Address& address) {
  if (ipc::special_range(address) != "unspecified") return address;
  return *ipc::parse_address(ipc::embedded(address).v6 ? "::1" : "127.0.0.1");
}

std::vector<ipc::Address> literals_of(const ipc::Uri& uri) {
  if (uri.address) return {reached_by(*uri.address)};
  if (uri.is_localhost()) return {*ipc::parse_address("127.0.0.1"), *ipc::parse_address("::1")};
  return {};
}

/// An address's verdict replaces an earlier one in the record unless that one allowed.
bool judge_address(const Config& config, Question question, const ipc::Address& address, Asker& asker,
                   Decision& decision) {
  question.address = &address;
  const auto verdict = asker.judge(*config.rules, question);
  const bool allowed = verdict.kind == Verdict::Kind::allow;
  if (allowed || decision.verdict != Decision::Verdict::allow) record(decision, verdict);
  return allowed;
}
}  // namespace

Verdict Asker::judge(const RuleSet& rules, const Question& question) {
  if (identity_) return judge_as(rules, question, *identity_);
  for (;;) {
    auto verdict = plumberd::judge(rules, question, facts_);
    if (verdict.kind != Verdict::Kind::need || verdict.need == Fact::address) return verdict;
    facts_.asked.set(static_cast<std::size_t>(verdict.need));  // what was not given cannot be known
  }
}

Question question_of(const Target& target) {
  Question question{.direction = direction_of(target), .service = target.service};
  question.by_client = target.by_client;
  if (target.kind == Target::Kind::local) return question;
  if (target.kind == Target::Kind::path) {
    question.unix_path = target.uri.path;
    return question;
  }
  question.scheme = target.uri.scheme;
  question.host = target.uri.host;
  question.port = target.uri.port_or_default();
  question.host_is_name = !target.uri.address && !target.uri.is_localhost();
  if (target.uri.secret.empty()) question.identity = target.uri.user;
  return question;
}

Judged judge_target(const Config& config, const Target& target, Asker& asker, Decision& decision) {
  const auto question = question_of(target);
  decision.direction = question.direction;
  decision.opened = target.service;
  decision.peer = target.kind == Target::Kind::local ? std::string{} : ipc::to_string(target.uri);
  decision.verdict = Decision::Verdict::none;
  Judged judged;
  if (question.direction == Direction::out && !question.host_is_name) {
    for (const auto& address : literals_of(target.uri)) {
      const bool allowed = judge_address(config, question, address, asker, decision);
      if (allowed || judged.addresses.empty()) judged.recorded = address;
      if (allowed) judged.addresses.push_back(ipc::to_string(address));
    }
    judged.allowed = !judged.addresses.empty();
    return judged;
  }
  const auto verdict = asker.judge(*config.rules, question);
  record(decision, verdict);
  judged.allowed = verdict.kind != Verdict::Kind::deny;
  judged.resolve = question.host_is_name;
  return judged;
}

std::vector<std::string> judge_addresses(const Config& config, const Target& target,
                                         const std::vector<std::string>& addresses, Asker& asker,
                                         Decision& decision) {
  std::vector<std::string> allowed;
  decision.verdict = Decision::Verdict::none;
  for (const auto& text : addresses) {
    const auto address = ipc::parse_address(text);
    if (address && judge_address(config, question_of(target), *address, asker, decision))
      allowed.push_back(text);
  }
  return allowed;
}

ipc::Result<Routed> route_of(const Config& config, const Ask& ask,
                             std::function<bool(std::string_view)> is_local) {
  auto routed = TRY(route(
      config,
      {.service = ask.service, .uri = ask.uri, .networkd = ask.networkd, .is_local = std::move(is_local)}));
  if (ask.transit) std::erase_if(routed.targets, [](const auto& t) { return t.kind != Target::Kind::uri; });
  if (!routed.targets.empty()) return routed;
  return ipc::fail(ipc::Word::unknown_service, "no route leads from \"" + ask.service + "\" to another host");
}

bool is_strangers_path(const Target& target, const Asker& asker) {
  return target.kind == Target::Kind::path && target.by_client && !asker.is_owner();
}

bool judge_end(const Config& config, const Target& target, const RealPath& real, Asker& asker,
               Decision& decision) {
  if (real.trusted || real.path == target.uri.path) return true;
  auto end = target;
  end.uri.path = end.uri.raw = real.path;
  const bool allowed = judge_target(config, end, asker, decision).allowed;
  decision.steps.push_back({"link", ipc::printable(target.uri.path), ipc::printable(real.path), ""});
  return allowed;
}

bool owner_may_serve(const Config& config, std::string_view service, Asker owner, Decision& decision) {
  const auto verdict = owner.judge(*config.rules, {.direction = Direction::serve, .service = service});
  if (verdict.kind == Verdict::Kind::allow) return true;
  decision.direction = Direction::serve;
  record(decision, verdict);
  const auto uid = "uid " + std::to_string(owner.uid().value_or(-1));
  decision.steps.push_back({"owner", std::string(service), uid, decision.rule_at});
  return false;
}
}  // namespace plumberd
