// The whole configuration as one immutable value: made by `load`, swapped as one, kept by requests that
// started with it.
#pragma once
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ipc/uri.hh"
#include "plumberd/judge.hh"

namespace plumberd {

using Milliseconds = std::chrono::milliseconds;

/// Where something is: what a route, redirect or directive points to, with the route's own settings.
struct Route {
  std::vector<std::string>
      targets{};      ///< URIs or service names, tried in order; `{service}` stands for the name
  unsigned warm = 0;  ///< spare connections held ready
  std::optional<Milliseconds> timeout{};
  std::string source{};    ///< local address to dial from; empty: the kernel's choice
  std::string profile{};   ///< [tls.NAME]; empty: none
  std::string settings{};  ///< for the helper alone: members of a JSON object, without its braces
  std::string at{};        ///< FILE:LINE
};

/// A `[redirects]` entry, a `--redirect`, or a `[[redirect]]` by URI pattern.
struct Redirect {
  std::string from{};  ///< service name; or URI pattern with `*` within one component
  std::string to{};    ///< service name or URI; `{service}` stands for the name
  bool by_uri = false;
  std::string at{};
};

struct Listen {
  std::string uri{};
  std::string service{};  ///< set: raw, all connections are for it; empty: the hop names it
  std::string profile{};
  bool transit = false;
  std::string settings{};  ///< as a route's
  std::string at{};
};

/// An external helper `[helpers.NAME]`, or one of ours.
struct HelperSpec {
  std::string name{};
  std::vector<std::string> exec{};
  std::vector<std::string> schemes{};
  std::string user{};
  unsigned workers = 1;
  bool hop = false;  ///< its URIs end in /SERVICE, as those of tcp: that name is judged and hopped for
  std::map<std::string, std::string> environment{};
  std::string at{};
};

struct Limits {
  unsigned requests_per_second = 0;  ///< per user; 0: no limit
  unsigned connections = 4096;       ///< per user
  unsigned pending_requests = 1024;  ///< per user
  Milliseconds request_timeout{10'000};
  Milliseconds hop_timeout{5'000};
};

struct PolicyTest {
  std::string as = "user:root", direction{}, service{}, peer{}, expect{}, at{};
};

struct Config {
  std::shared_ptr<const RuleSet> rules;
  std::vector<std::string> pinned{};
  bool denied_detail = true;  ///< denied_detail = "rule" (the rule is shown to the denied client) or "word"
  std::vector<Redirect> redirects{};  ///< in order: command line, [redirects] by name, [[redirect]] by URI
  std::map<std::string, Route, std::less<>> routes{};  ///< by exact name, "*.suffix" or "*"
  std::vector<Listen> listens{};
  std::map<std::string, std::string, std::less<>>
      profiles{};  ///< [tls.NAME] as JSON object text, for helpers
  std::vector<HelperSpec> helpers{};
  Limits limits{};
  std::vector<std::string> admin_users{}, admin_groups{};
  std::vector<uid_t> admin_uids{};  ///< of admin_users, resolved when loaded
  std::vector<gid_t> admin_gids{};  ///< of admin_groups
  std::vector<PolicyTest> tests{};
  std::vector<std::string> warnings{};
  std::vector<std::string> files{};  ///< that were read
  std::uint64_t generation = 0;      ///< set by whoever installs it
};

/// The first rule that judges executables, where this process cannot read those of other users; see exe_note.
const Rule* rule_without_exe(const Config& config);

/// What is wrong, where: printed as FILE:LINE:COLUMN: error: WHAT; REMEDY, then the line.
struct Diagnostic {
  std::string file{};  ///< or "command line"
  std::size_t line = 0, column = 0;
  bool warning = false;
  std::string text{};    ///< "what; remedy"
  std::string source{};  ///< the line or the option itself
  std::string print() const;
};

/// The arguments that shape the configuration, in the order given.
struct Arguments {
  struct Item {
    enum class Kind : std::uint8_t { allow, deny, audit, redirect, route, listen } kind;
    std::vector<std::string> words;  ///< DIRECTION SERVICE PEER, NAME TARGET, or URI
  };
  std::vector<Item> items{};
  std::optional<std::string> config{};  ///< --config: no other file is read
};

/// How strict `load` is about users that do not exist.
enum class Strictness : std::uint8_t { boot, check };

struct Loaded {
  std::shared_ptr<Config> config;  ///< null when any diagnostic is an error
  std::vector<Diagnostic> diagnostics{};
};

/// Reads the default files (or --config), parses and checks everything in one pass, runs the [[test]]s.
/// Starts nothing, creates nothing. The only I/O is reading those files and the user database, and looking
/// for the programs of [helpers.*] and the files that profiles name.
Loaded load(const Arguments& arguments, Strictness strictness);
/// The same from text, without that look around: what tests and the fuzzer call. `file` is the name shown.
Loaded load_text(std::string_view toml, std::string_view file, const Arguments& arguments,
                 Strictness strictness);

}  // namespace plumberd
