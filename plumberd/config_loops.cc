// Redirects and routes that lead back to where they began.
#include <algorithm>
#include <set>

#include "plumberd/draft.hh"
#include "plumberd/uri_pattern.hh"

namespace plumberd {
namespace {
/// The name that a target stands for, if it is one: NAME, unix:///NAME or unix://NAME.
std::string name_of(const std::string& target) {
  if (target.find("://") == target.npos) return target;
  const auto uri = ipc::parse_uri(target);
  return uri && uri->is_unix() ? uri->service : "";
}

/// Chains of names by redirects and routes: those that close on themselves lead nowhere. Of routes only those
/// count that have one target and are for exactly one name.
class Chains {
 public:
  explicit Chains(Draft& draft) : draft_{draft} {
    const auto& redirects = draft.config.redirects;
    for (std::size_t i = 0; i < redirects.size(); ++i)
      if (!redirects[i].by_uri)
        links_.try_emplace(redirects[i].from,
                           Link{name_of(redirects[i].to), draft.redirect_places[i], false});
    for (const auto& [name, route] : draft.config.routes) add(name, route);
  }

  void check() {
    for (const auto& [name, link] : links_)
      if (!seen_.contains(name)) follow(name);
  }

 private:
  struct Link {
    std::string to;
    Place place;
    bool is_route;
  };

  /// A route to the name itself is the local service of that name.
  void add(const std::string& name, const Route& route) {
    const auto place = draft_.route_places.find(name);
    if (route.targets.size() != 1 || place == draft_.route_places.end()) return;
    auto to = name_of(route.targets[0]);
    if (to != name) links_.try_emplace(name, Link{std::move(to), place->second, true});
  }

  /// Walks the chain that begins at `name`; a name that comes again closes a loop.
  void follow(const std::string& start) {
    std::vector<std::string> chain{start};
    while (true) {
      const auto found = links_.find(chain.back());
      if (found == links_.end() || found->second.to.empty()) return mark(chain);
      const auto& next = found->second.to;
      const auto again = std::ranges::find(chain, next);
      const bool closes = again != chain.end();
      if (closes && !seen_.contains(next)) report({again, chain.end()});
      if (closes || seen_.contains(next)) return mark(chain);
      chain.push_back(next);
    }
  }

  void mark(const std::vector<std::string>& chain) { seen_.insert(chain.begin(), chain.end()); }

  void report(const std::vector<std::string>& loop) {
    std::string text;
    for (const auto& name : loop) text += name + " -> ";
    const auto by_route = [&](const std::string& name) { return links_.at(name).is_route; };
    const std::string kind = std::ranges::any_of(loop, by_route) ? "loop: " : "redirect loop: ";
    draft_.report.error(links_.at(loop[0]).place, kind + text + loop[0] + "; break it");
  }

  Draft& draft_;
  std::map<std::string, Link> links_{};
  std::set<std::string> seen_{};
};

/// Redirects by URI, followed as a request would be. A loop is reported where its first redirect stands.
class UriChains {
 public:
  explicit UriChains(Draft& draft) : draft_{draft}, redirects_{draft.config.redirects} {
    for (std::size_t i = 0; i < redirects_.size(); ++i)
      (redirects_[i].by_uri ? by_host_[host_of(redirects_[i].from)] : by_name_[redirects_[i].from])
          .push_back(i);
  }

  void check() {
    for (std::size_t i = 0; i < redirects_.size(); ++i)
      if (redirects_[i].by_uri) follow(i);
  }

 private:
  void follow(std::size_t start) {
    std::vector<std::size_t> chain{start};
    auto service = service_of(redirects_[start].from);
    while (chain.size() <= most_rounds) {
      const auto next = next_of(filled_in(redirects_[chain.back()].to, service), service);
      if (next == none) return;
      if (std::ranges::find(chain, next) != chain.end()) {
        if (next == start && is_first_of(chain)) report(chain);
        return;
      }
      chain.push_back(next);
    }
  }

  bool is_first_of(const std::vector<std::size_t>& loop) const {
    return std::ranges::none_of(loop,
                                [&](auto index) { return redirects_[index].by_uri && index < loop[0]; });
  }

  /// Some service that the pattern covers.
  static std::string service_of(const std::string& pattern) {
    const auto slash = pattern.find('/', pattern.find("://") + 3);
    const auto path = slash == pattern.npos ? "" : pattern.substr(slash + 1);
    return path.empty() || path.find('*') != path.npos ? "x" : path;
  }

  /// The redirect that takes what goes to `target`, whose service, if it names one, is the name from then on.
  std::size_t next_of(const std::string& target, std::string& service) const {
    const bool is_uri = target.find("://") != target.npos;
    const auto uri = is_uri ? ipc::parse_uri(target) : ipc::Result<ipc::Uri>{};
    if (!uri) return none;
    if (is_uri && !uri->service.empty()) service = uri->service;
    if (const auto found = is_uri ? by_uri(*uri) : none; found != none) return found;
    const auto named = by_name_.find(name_of(target));
    return named == by_name_.end() ? none : named->second.front();
  }

  /// The first one that covers it, of those for its very host and those for many.
  std::size_t by_uri(const ipc::Uri& uri) const {
    std::size_t first = none;
    for (const auto& host : {uri.host, std::string{}}) {
      const auto found = by_host_.find(host);
      if (found == by_host_.end()) continue;
      const auto covers = [&](std::size_t index) { return uri_pattern_covers(redirects_[index].from, uri); };
      const auto covering = std::ranges::find_if(found->second, covers);
      if (covering != found->second.end()) first = std::min(first, *covering);
    }
    return first;
  }

  /// The one host that a pattern covers, as URIs have it; nothing where it may cover several.
  static std::string host_of(const std::string& pattern) {
    auto authority = pattern.substr(0, pattern.find('/', pattern.find("://") + 3));
    if (authority.ends_with(":*")) authority.resize(authority.size() - 2);
    const auto uri = ipc::parse_uri(authority + "/x");
    return uri && authority.find('*') == authority.npos ? uri->host : "";
  }

  void report(const std::vector<std::size_t>& loop) {
    std::string text = "redirect loop: ";
    for (const auto index : loop) text += redirects_[index].from + " -> ";
    draft_.report.error(draft_.redirect_places[loop[0]], text + redirects_[loop[0]].from + "; break it");
  }

  static constexpr std::size_t none = static_cast<std::size_t>(-1);
  static constexpr std::size_t most_rounds = 8;  // after which a request is LOOP anyway
  Draft& draft_;
  const std::vector<Redirect>& redirects_;
  std::map<std::string, std::vector<std::size_t>> by_host_{}, by_name_{};
};
}  // namespace

void check_loops(Draft& draft) {
  Chains{draft}.check();
  UriChains{draft}.check();
}
}  // namespace plumberd
