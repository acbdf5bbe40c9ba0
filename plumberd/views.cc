#include "plumberd/views.hh"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/name.hh"
#include "plumberd/principals.hh"

namespace plumberd {
namespace {
constexpr std::size_t message_room = 56 * 1024;
constexpr std::size_t most_sockets = 4096;  // far more than fit a message

struct Offered {
  std::string name;
  uid_t owner;
  bool guarded;
};

/// Guarded services, and the sockets of programs that bound their own name.
std::vector<Offered> offered_services(const Router& router) {
  std::vector<Offered> services;
  for (const auto& entry : router.registry.entries()) services.push_back({entry.name, entry.owner, true});
  DIR* directory = ::opendir(router.rundir.path().c_str());
  if (directory == nullptr) return services;
  std::size_t sockets = 0;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string name = entry->d_name;
    struct stat status {};
    // Anybody can put files into a system directory: those that are no sockets cost no look.
    if (entry->d_type != DT_SOCK && entry->d_type != DT_UNKNOWN) continue;
    if (++sockets > most_sockets) break;
    if (!ipc::check_service_name(name) || router.registry.has(name)) continue;
    if (::lstat(router.rundir.file(name).c_str(), &status) == 0 && S_ISSOCK(status.st_mode))
      services.push_back({name, status.st_uid, false});
  }
  ::closedir(directory);
  std::ranges::sort(services, {}, &Offered::name);
  return services;
}

void write_services(ipc::JsonWriter& json, const std::vector<Offered>& services, const std::string& text) {
  json.key("services").array();
  for (const auto& service : services) {
    if (text.size() > message_room) break;  // anybody can put sockets into a system directory
    json.object()
        .add("name", service.name)
        .add("owner", std::int64_t{service.owner})
        .add("guarded", service.guarded)
        .end();
  }
  json.end();
}

void write_helpers(ipc::JsonWriter& json, const Router& router) {
  json.key("helpers").array();
  for (const auto* helper : router.helpers.current()->all()) {
    json.object().add("name", helper->spec().name).key("schemes").array();
    for (const auto& scheme : helper->spec().schemes) json.string(scheme);
    json.end().add("state", helper->state()).add("pid", std::int64_t{helper->pid()});
    json.add("restarts", std::int64_t{helper->restarts()})
        .add("dialling", static_cast<std::int64_t>(helper->dialling()))
        .end();
  }
  json.end();
}

void write_listeners(ipc::JsonWriter& json, const Router& router) {
  json.key("listeners").array();
  for (const auto& entry : router.listeners.entries())
    json.object().add("uri", entry.uri).add("actual", entry.actual).add_if("service", entry.service).end();
  json.end();
}

void write_limits(ipc::JsonWriter& json, const Limits& limits) {
  json.key("limits").object().add("requests_per_second", std::int64_t{limits.requests_per_second});
  json.add("connections", std::int64_t{limits.connections})
      .add("pending_requests", std::int64_t{limits.pending_requests});
  json.add("request_timeout_ms", std::int64_t{limits.request_timeout.count()});
  json.add("hop_timeout_ms", std::int64_t{limits.hop_timeout.count()}).end();
}

void write_notes(ipc::JsonWriter& json, const Router& router) {
  json.key("notes").array();
  if (rule_without_exe(*router.config) != nullptr) json.string(exe_note);
  json.end();
}
}  // namespace

ipc::Result<Ask> ask_of_params(ipc::JsonView params) {
  Ask ask;
  ask.service = params["service"].string_or("");
  ask.uri = params["uri"].string_or("");
  ask.networkd = params["networkd"].string_or("");
  ask.claims = params["labels"].labels();
  ask.ktls = params["ktls"].boolean_or(false);
  if (ask.service.empty() == ask.uri.empty())
    return ipc::fail(ipc::Word::bad_request,
                     "exactly one of service and uri is needed, as a string that is not empty");
  if (ask.claims.size() > 32) return ipc::fail(ipc::Word::bad_request, "more than 32 labels");
  constexpr std::size_t most_claimed = 2048;  // they have to fit a hop
  std::size_t claimed = 0;
  for (const auto& [name, value] : ask.claims) claimed += name.size() + value.size();
  if (claimed > most_claimed) return ipc::fail(ipc::Word::bad_request, "labels of more than 2048 bytes");
  return ask;
}

std::vector<std::string> known_schemes(const Config& config) {
  std::vector<std::string> schemes{"tcp", "tls", "dtls", "udp", "unix"};
  for (const auto& helper : config.helpers)
    schemes.insert(schemes.end(), helper.schemes.begin(), helper.schemes.end());
  return schemes;
}

std::string list_json(Router& router, const std::function<bool(const std::string&)>& may_reach) {
  auto services = offered_services(router);
  std::erase_if(services, [&](const Offered& service) { return !may_reach(service.name); });
  std::string text;
  ipc::JsonWriter json{text};
  json.object();
  write_services(json, services, text);
  json.key("routes").array();
  for (const auto& [name, route] : router.config->routes) {
    if (text.size() > message_room) break;
    json.object().add("name", name).add("at", route.at).end();
  }
  json.end().end();
  return text;
}

std::string status_json(const Router& router, std::size_t sessions) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add("version", PLUMBERD_VERSION).add("pid", std::int64_t{::getpid()});
  json.add("generation", static_cast<std::int64_t>(router.config->generation))
      .add("rundir", router.rundir.path());
  write_listeners(json, router);
  write_helpers(json, router);
  write_services(json, offered_services(router), text);
  write_limits(json, router.config->limits);
  json.add("sessions", static_cast<std::int64_t>(sessions))
      .add("rules", static_cast<std::int64_t>(router.config->rules->rules().size()));
  json.add("warm", static_cast<std::int64_t>(router.warm.held())).key("files").array();
  for (const auto& file : router.config->files) json.string(file);
  json.end();
  write_notes(json, router);
  json.end();
  return text;
}

std::string rules_json(const Router& router, std::size_t offset) {
  const auto rules = router.config->rules->rules();
  std::string text;
  ipc::JsonWriter json{text};
  json.object().key("rules").array();
  for (; offset < rules.size() && text.size() < message_room; ++offset) {
    const auto at = rules[offset].at();
    const auto hit = router.stats.hits(rules[offset].text(), at);
    json.object()
        .add("text", rules[offset].text())
        .add("at", at)
        .add("hits", static_cast<std::int64_t>(hit.count));
    if (hit.count > 0) json.add("last", rfc3339(hit.last));
    json.end();
  }
  json.end();
  if (offset < rules.size()) json.add("next", static_cast<std::int64_t>(offset));
  json.end();
  return text;
}

void hide_rules(Decision& decision) {
  decision.rule.clear();
  decision.rule_at.clear();
  decision.audited.clear();
  decision.audited_at.clear();
  decision.reason.clear();
  // An undecided step with a place is about a rule, one without about a host.
  std::erase_if(decision.steps, [](const Step& step) {
    return step.kind.starts_with("rule") || (step.kind == "undecided" && !step.at.empty());
  });
  for (auto& step : decision.steps)
    if (step.kind == "owner") step.at.clear();
  decision.error.rule.clear();
  decision.error.at.clear();
  if (decision.failed && decision.verdict == Decision::Verdict::deny)
    decision.error.text = denial(decision, false).text;
}

ipc::Result<Since> since_of(ipc::JsonView since) {
  if (!since.exists() || since.is_null()) return Since{};
  if (const auto id = since.integer(); id && *id >= 0) return Since{.id = static_cast<std::uint64_t>(*id)};
  const auto time = parse_rfc3339(since.string_or(""));
  if (time) return Since{.time = *time};
  return ipc::fail(
      ipc::Word::bad_request,
      "since is neither the number of an event nor a time as in 2026-01-31T12:00:00Z (RFC 3339)");
}

std::vector<Events::Event> history_since(const Events& events, const Since& since, std::int64_t count,
                                         const std::function<bool(const Decision&)>& wanted) {
  std::vector<Events::Event> chosen;
  for (const auto& event : events.history())
    if (event->id > since.id && event->time >= since.time && wanted(*event)) chosen.push_back(event);
  if (count >= 0 && chosen.size() > static_cast<std::size_t>(count))
    chosen.erase(chosen.begin(), chosen.end() - count);
  return chosen;
}
}  // namespace plumberd
