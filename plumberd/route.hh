// Where a request goes: a pure function of the configuration, the wish of the client and what is offered
// here.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/config.hh"

namespace plumberd {

/// One line of a decision: what was done to the request and by whose word.
struct Step {
  std::string kind{};        ///< "redirect", "directive", "route", "local", "default-route", "pinned", ...
  std::string from{}, to{};  ///< secrets masked
  std::string at{};          ///< FILE:LINE where configuration decided
};

struct RouteQuestion {
  std::string service{};      ///< empty when `uri` is asked directly
  std::string uri{};          ///< native connect {uri}: routed through [[redirect]] only
  std::string networkd{};     ///< the client's IPC_NETWORKD; empty: none
  bool from_outside = false;  ///< an inbound connection: redirects and local services only
  bool transit = false;       ///< from outside, and may be passed on: what is elsewhere is a target, too
  bool by_listener = false;   ///< from outside, and the name is a raw listener's own
  std::function<bool(std::string_view)> is_local{};  ///< whether a service of this name is offered here now
};

/// One place to try.
struct Target {
  enum class Kind : std::uint8_t { local, path, uri };
  Kind kind = Kind::local;
  std::string service{};         ///< the name finally opened (what rules are asked about)
  ipc::Uri uri{};                ///< Kind::uri and Kind::path
  const Route* route = nullptr;  ///< settings of the route that gave it; lives as long as the Config
  bool by_client = false;        ///< the client's own word: absolute paths and stored identities need a rule
};

struct Routed {
  std::string asked{};
  std::vector<Target> targets{};  ///< in the order to try; never empty
  std::vector<Step> steps{};
};

/// In this order: redirects, directive (unless pinned), exact and suffix routes, local service, route "*".
/// LOOP after 8 rounds, UNKNOWN_SERVICE when nothing has it, BAD_REQUEST for bad names and URIs.
ipc::Result<Routed> route(const Config& config, const RouteQuestion& question);

}  // namespace plumberd
