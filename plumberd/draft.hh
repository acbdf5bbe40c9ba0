// A configuration in the making. Internal to loading: config_*.cc fill it part by part.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ipc/name.hh"
#include "plumberd/document.hh"
#include "plumberd/fields.hh"
#include "plumberd/principals.hh"
#include "plumberd/report.hh"
#include "plumberd/rule_table.hh"

namespace plumberd {

struct Draft {
  explicit Draft(Strictness how) : strictness{how} {}

  Config config{};
  Report report{};
  Principals principals{};
  Strictness strictness;
  bool looks_around = false;  ///< for the programs and files that the configuration names
  std::vector<std::string> schemes{"tcp", "tls", "dtls", "udp", "unix"};  ///< and those of [helpers.*]
  RuleTable rules{};
  std::vector<Place> rule_places{};  ///< by number of the rule
  RuleSet::Defaults defaults{Default::own, Default::deny, Default::own, Default::own};  ///< by Direction

  std::vector<Place> redirect_places{};  ///< parallel to config.redirects
  /// Where each was given first. (A redirect is from a name or from a pattern, which no name looks like.)
  std::map<std::string, Place, std::less<>> redirects_from{}, route_places{}, listen_places{},
      helper_places{};
  std::map<std::string, std::string, std::less<>> scheme_owners{};  ///< scheme to helper
  struct Reference {
    std::string profile;
    Place place;
    bool of_listener = false;
  };
  std::vector<Reference> profiles_used{};
  std::vector<Place> test_places{};  ///< parallel to config.tests
};

/// One rule, its text starting at `place`.
void add_rule(Draft& draft, std::string_view text, const Place& place);
void read_rules(Draft& draft, const Document& document, Fields& root);

/// A name or URI that something leads to: checked with `{service}` filled in. Secrets are refused in
/// arguments, which everybody on the machine can read.
bool check_target(Draft& draft, std::string_view target, const Place& place);
void add_redirect(Draft& draft, Redirect redirect, const Place& place, const Place& to);
void add_route(Draft& draft, const std::string& name, Route route, const Place& place);
void add_listen(Draft& draft, Listen listen, const Place& place);
void read_routing(Draft& draft, const Document& document, Fields& root);
void read_listens(Draft& draft, const Document& document, Fields& root);

/// [helpers.*], which come first: they say which schemes exist.
void read_helpers(Draft& draft, const Document& document, Fields& root);
void read_profiles(Draft& draft, const Document& document, Fields& root);
void read_settings(Draft& draft, const Document& document, Fields& root);
void read_arguments(Draft& draft, const Arguments& arguments);

/// Redirects and routes of names, and redirects of URIs, that lead back to where they began.
void check_loops(Draft& draft);

/// What only the whole shows: loops, references, hidden rules, tests. Sets config.rules.
void finish(Draft& draft);

/// A user or group of a rule or setting: unknown ones are an error, at boot a warning.
void report_unknown(Draft& draft, std::string_view what, std::string_view name, const Place& place);

inline std::string quoted(std::string_view text) { return "\"" + ipc::printable(text, 100) + "\""; }

}  // namespace plumberd
