#include "plumberd/route.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "plumberd/uri_pattern.hh"

namespace plumberd {
namespace {
using ipc::Result;
using ipc::Word;
constexpr unsigned most_rounds = 8;
constexpr std::size_t most_visits = 128;  // of names, however lists branch

std::string shown(std::string_view target) { return ipc::printable(ipc::mask_secrets(target)); }

bool is_uri(std::string_view target) { return target.find("://") != target.npos; }

/// One request on its way through the configuration.
class Walk {
 public:
  Walk(const Config& config, const RouteQuestion& question) : config_{config}, question_{question} {}

  Result<Routed> route() {
    const auto& q = question_;
    for (const auto* text : {&q.service, &q.uri, &q.networkd})
      if (text->find('\0') != text->npos) return fail(Word::bad_request, "a NUL byte in the request");
    if (!q.uri.empty()) {
      routed_.asked = shown(q.uri);
      if (auto done = open_uri(q.uri, Visit{.name = "*", .by_client = true}); !done)
        return std::unexpected(std::move(done).error());
      return std::move(routed_);
    }
    routed_.asked = q.service;
    if (!q.by_listener || q.service != ipc::metrics_service) TRY(ipc::check_service_name(q.service));
    if (auto done = open_name(Visit{.name = q.service, .first = true}); !done)
      return std::unexpected(std::move(done).error());
    return std::move(routed_);
  }

 private:
  /// Where the request stands: under which name, by whose word, after how many rounds.
  struct Visit {
    std::string name{};
    bool first = false;       ///< as asked: the client's directive counts
    bool by_client = false;   ///< the target is the client's own word
    bool local_only = false;  ///< a route that leads to its own name means the service here
    unsigned round = 0;
    const Route* route = nullptr;
  };

  static std::unexpected<ipc::Error> fail(Word word, std::string text) {
    return ipc::fail(word, std::move(text));
  }

  void step(std::string_view kind, std::string_view from, std::string_view to, std::string_view at = {}) {
    routed_.steps.push_back({std::string(kind), shown(from), shown(to), std::string(at)});
  }

  std::unexpected<ipc::Error> loop() const {
    std::string chain = routed_.asked;
    for (const auto& s : routed_.steps)
      if (s.kind != "pinned" && chain.size() < 200) chain += " -> " + s.to;
    return fail(Word::loop, "more than 8 rounds of redirection: " + chain + "; break the loop");
  }

  Result<> open_name(Visit visit) {
    if (visit.round > most_rounds || ++visits_ > most_visits) return loop();
    if (const auto* redirect = redirect_of(visit.name)) return follow(*redirect, visit);
    if (visit.first) {
      const auto wish = TRY(directive(visit));
      if (!wish.empty()) return obey(wish, visit);
    }
    const bool routes_count = !visit.local_only && !question_.from_outside;
    if (routes_count)
      if (const auto* route = specific_route(visit.name)) return take(*route, visit, "route");
    if (question_.is_local && question_.is_local(visit.name)) return local(visit);
    if (const auto found = config_.routes.find("*"); routes_count && found != config_.routes.end())
      return take(found->second, visit, "default-route");
    return fail(Word::unknown_service, "no service \"" + visit.name + "\" is offered here" +
                                           (routes_count ? " and no directive or route leads to it" : ""));
  }

  const Redirect* redirect_of(std::string_view name) const {
    const auto found = std::ranges::find_if(
        config_.redirects, [&](const auto& redirect) { return !redirect.by_uri && redirect.from == name; });
    return found == config_.redirects.end() ? nullptr : &*found;
  }

  Result<> follow(const Redirect& redirect, const Visit& visit) {
    const auto to = filled_in(redirect.to, visit.name);
    step("redirect", visit.name, to, redirect.at);
    return open(to, Visit{.name = visit.name, .round = visit.round + 1});
  }

  /// The client's wish for this name; empty when there is none or it does not count.
  Result<std::string> directive(const Visit& visit) {
    if (question_.from_outside) return std::string{};
    auto wish = TRY(ipc::directive_target(question_.networkd, visit.name));
    const bool pinned = std::ranges::any_of(
        config_.pinned, [&](const auto& pattern) { return ipc::pattern_covers(pattern, visit.name); });
    if (!pinned || wish.empty()) return wish;
    step("pinned", visit.name, wish);
    return std::string{};
  }

  Result<> obey(const std::string& wish, const Visit& visit) {
    step("directive", visit.name, wish);
    return open(wish, Visit{.name = visit.name, .by_client = true, .round = visit.round + 1});
  }

  const Route* specific_route(const std::string& name) const {
    if (const auto exact = config_.routes.find(name); exact != config_.routes.end()) return &exact->second;
    for (auto dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
      const auto found = config_.routes.find("*" + name.substr(dot));
      if (found != config_.routes.end()) return &found->second;
    }
    return nullptr;
  }

  /// Every target of the route that leads somewhere counts; if none does, the first reason.
  Result<> take(const Route& route, const Visit& visit, std::string_view kind) {
    std::optional<ipc::Error> first_error;
    bool any = false;
    for (const auto& target : route.targets) {
      const auto to = filled_in(target, visit.name);
      step(kind, visit.name, to, route.at);
      auto done = open(to, Visit{.name = visit.name, .round = visit.round + 1, .route = &route});
      any = any || done.has_value();
      if (!done && !first_error) first_error = std::move(done).error();
    }
    if (any) return {};
    if (!first_error) return fail(Word::unknown_service, "the route of \"" + visit.name + "\" has no target");
    return std::unexpected(*std::move(first_error));
  }

  Result<> local(const Visit& visit) {
    step("local", visit.name, visit.name);
    routed_.targets.push_back({.kind = Target::Kind::local, .service = visit.name, .route = visit.route});
    return {};
  }

  /// What a redirect, directive or route points to: a URI, or a name that goes round again.
  Result<> open(const std::string& target, const Visit& visit) {
    if (is_uri(target)) return open_uri(target, visit);
    return go_round(target, visit);
  }

  Result<> go_round(const std::string& name, const Visit& visit) {
    TRY(ipc::check_service_name(name));
    Visit next{.name = name, .round = visit.round};
    next.local_only = visit.route != nullptr && name == visit.name;
    return open_name(std::move(next));
  }

  bool takes_hops(std::string_view scheme) const {
    return std::ranges::any_of(config_.helpers, [&](const auto& helper) {
      return helper.hop && std::ranges::find(helper.schemes, scheme) != helper.schemes.end();
    });
  }

  Result<> open_uri(const std::string& text, const Visit& visit) {
    auto uri = TRY(ipc::parse_uri(text));
    if (!uri.warning.empty()) step("legacy-form", text, uri.raw);
    if (uri.service.empty() && takes_hops(uri.scheme)) TRY(ipc::name_service(uri));
    for (const auto& redirect : config_.redirects) {
      if (!redirect.by_uri || !uri_pattern_covers(redirect.from, uri)) continue;
      if (visit.round >= most_rounds || ++visits_ > most_visits) return loop();
      const auto to = filled_in(redirect.to, uri.service.empty() ? visit.name : uri.service);
      step("redirect", text, to, redirect.at);
      return open(to, Visit{.name = visit.name, .round = visit.round + 1, .route = visit.route});
    }
    if (uri.is_unix() && uri.path.empty()) return go_round(uri.service, visit);
    return add(std::move(uri), visit);
  }

  Result<> add(ipc::Uri uri, const Visit& visit) {
    const bool is_path = uri.is_unix();
    if (question_.from_outside && !is_path && !question_.transit)
      return fail(Word::unknown_service,
                  "\"" + visit.name + "\" is elsewhere, and requests from outside are not passed on");
    Target target{.kind = is_path ? Target::Kind::path : Target::Kind::uri};
    // What is passed on is judged `in` by its name here, and `out` by its name there when it is dialled.
    target.service = uri.service.empty() || question_.from_outside ? visit.name : uri.service;
    target.uri = std::move(uri);
    target.route = visit.route;
    target.by_client = visit.by_client;
    routed_.targets.push_back(std::move(target));
    return {};
  }

  const Config& config_;
  const RouteQuestion& question_;
  Routed routed_{};
  std::size_t visits_ = 0;
};
}  // namespace

ipc::Result<Routed> route(const Config& config, const RouteQuestion& question) {
  return Walk{config, question}.route();
}
}  // namespace plumberd
