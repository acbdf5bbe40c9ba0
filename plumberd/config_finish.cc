// What only the whole configuration shows: missing profiles, rules never reached, tests that fail.
#include <unistd.h>

#include <algorithm>

#include "ipc/json.hh"
#include "plumberd/draft.hh"
#include "plumberd/hidden.hh"
#include "plumberd/nearest.hh"
#include "plumberd/rule_table.hh"
#include "plumberd/supposed.hh"

namespace plumberd {
namespace {
/// Pins without a certificate to hold them against. They may be meant for the profile's routes: no error.
bool has_idle_pins(const std::string& profile) {
  const auto json = ipc::JsonDocument::parse(profile);
  const auto keys = json ? json->root() : ipc::JsonView{};
  const auto asks = keys["client_auth"].string_or(keys["client_ca"].exists() ? "require" : "none");
  return keys["pins"].size() > 0 && asks == "none";
}

void check_profile(Draft& draft, const Draft::Reference& used, const std::vector<std::string_view>& known) {
  const auto found = draft.config.profiles.find(used.profile);
  const auto shown = "[tls." + ipc::printable(used.profile, 64) + "]";
  if (found == draft.config.profiles.end())
    draft.report.error(
        used.place, "there is no " + shown + (known.empty() ? "; add it" : remedy_for(used.profile, known)));
  else if (used.of_listener && has_idle_pins(found->second))
    draft.report.warning(used.place, "the pins of " + shown +
                                         " keep nobody out here, where no certificate is asked for; add "
                                         "client_ca, or give this listener a profile without pins");
}

void check_profiles(Draft& draft) {
  std::vector<std::string_view> known;
  for (const auto& [name, json] : draft.config.profiles) known.push_back(name);
  for (const auto& used : draft.profiles_used) check_profile(draft, used, known);
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
  const bool open = verdict.kind == Verdict::Kind::need;
  return std::string(open ? "the resolved address is needed first, by the " : "") + "rule at " +
         verdict.rule->at() + " \"" + ipc::printable(verdict.rule->text()) + "\"";
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
  check_loops(draft);
  check_profiles(draft);
  draft.config.rules = std::make_shared<const RuleSet>(std::move(draft.rules), draft.defaults);
  check_hidden(draft);
  for (std::size_t i = 0; i < draft.config.tests.size(); ++i)
    run_test(draft, draft.config.tests[i], draft.test_places[i]);
}

const Rule* rule_without_exe(const Config& config) {
  if (may_read_others_exe()) return nullptr;
  const auto rules = config.rules->rules();
  const auto is_exe = [](const CompactSelector& selector) { return selector.kind == Selector::Kind::exe; };
  const auto judges_exe = [&](const Rule& rule) {
    return std::ranges::any_of(config.rules->table().selectors(rule), is_exe);
  };
  const auto first = std::ranges::find_if(rules, judges_exe);
  return first == rules.end() ? nullptr : &*first;
}
}  // namespace plumberd
