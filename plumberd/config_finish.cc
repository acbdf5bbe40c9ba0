// What only the whole configuration shows: loops, missing profiles, rules never reached, tests that fail.
#include <unistd.h>

#include <algorithm>
#include <set>

#include "plumberd/draft.hh"
#include "plumberd/hidden.hh"
#include "plumberd/nearest.hh"
#include "plumberd/supposed.hh"

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

void check_profiles(Draft& draft) {
  std::vector<std::string_view> known;
  for (const auto& [name, json] : draft.config.profiles) known.push_back(name);
  for (const auto& [profile, place] : draft.profiles_used)
    if (!draft.config.profiles.contains(profile))
      draft.report.error(place, "there is no [tls." + ipc::printable(profile, 64) + "]" +
                                    (known.empty() ? "; add it" : remedy_for(profile, known)));
}

void check_hidden(Draft& draft) {
  const auto rules = draft.config.rules->rules();
  for (const auto& hidden : hidden_rules(*draft.config.rules)) {
    const auto text = "is never reached: rule at " + rules[hidden.by].at() + " \"" +
                      ipc::printable(rules[hidden.by].text()) + "\" matches all that \"" +
                      ipc::printable(rules[hidden.rule].text()) +
                      "\" does; move it above that rule or remove it";
    if (hidden.same_source) {
      draft.report.error(draft.rule_places[hidden.rule], text);
    } else {
      draft.report.warning(draft.rule_places[hidden.rule], text);
    }
  }
}

/// "allow", "deny" or "audit"; what only an address could decide counts as allowed.
std::string_view outcome(const Verdict& verdict) {
  if (verdict.audited != nullptr) return "audit";
  return verdict.kind == Verdict::Kind::deny ? "deny" : "allow";
}

std::string decided_by(const Verdict& verdict) {
  if (verdict.rule == nullptr) return verdict.reason;
  return "rule at " + verdict.rule->at() + " \"" + ipc::printable(verdict.rule->text()) + "\"";
}

/// At boot the user database may be down; what its absence does to a test must not keep the router from
/// starting. Rules then deny more, never less.
void fail_test(Draft& draft, const Place& place, std::string text) {
  if (draft.strictness == Strictness::boot && draft.principals.any_unknown())
    return draft.report.warning(place, text + " (users or groups are unknown at this time)");
  draft.report.error(place, std::move(text));
}

void run_test(Draft& draft, const PolicyTest& test, const Place& place) {
  const auto supposed = suppose(test.as, *direction_from(test.direction), test.service, test.peer,
                                draft.schemes, ::geteuid(), draft.principals);
  if (!supposed) return fail_test(draft, place, "this [[test]] cannot be: " + supposed.error().text);
  const auto verdict = judge(*draft.config.rules, supposed->question(), supposed->facts);
  const auto actual = outcome(verdict);
  if (actual == test.expect || (test.expect == "allow" && actual == "audit")) return;
  fail_test(draft, place,
            "test failed: expected " + test.expect + ", but it is " + std::string(actual) + ": " +
                decided_by(verdict) + "; correct the rules or the test");
}
}  // namespace

void finish(Draft& draft) {
  Chains{draft}.check();
  check_profiles(draft);
  draft.config.rules = std::make_shared<const RuleSet>(std::move(draft.rules), draft.defaults);
  check_hidden(draft);
  for (std::size_t i = 0; i < draft.config.tests.size(); ++i)
    run_test(draft, draft.config.tests[i], draft.test_places[i]);
}

const Rule* rule_without_exe(const Config& config) {
  if (may_read_others_exe()) return nullptr;
  const auto rules = config.rules->rules();
  const auto judges_exe = [](const Rule& rule) { return rule.text().find("exe:") != std::string_view::npos; };
  const auto first = std::ranges::find_if(rules, judges_exe);
  return first == rules.end() ? nullptr : &*first;
}
}  // namespace plumberd
