// What operators are shown: JSON and text made from the router's state. No I/O but the listing of the run
// directory.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "plumberd/request.hh"
#include "plumberd/router.hh"

namespace plumberd {

std::string list_json(Router& router, const std::function<bool(const std::string&)>& may_reach);
std::string status_json(const Router& router, std::size_t sessions);
/// Rules from `offset` on, as many as fit one message; `next` where there are more.
std::string rules_json(const Router& router, std::size_t offset);
/// Prometheus text format 0.0.4.
std::string metrics_text(const Router& router);

/// `service` or `uri`, `networkd` of a connect or explain.
ipc::Result<Ask> ask_of_params(ipc::JsonView params);
/// Those that rules and suppositions may name.
std::vector<std::string> known_schemes(const Config& config);
/// For clients that may know the word of a denial only.
void hide_rules(Decision& decision);
/// From where on events are wanted: behind an id, or from a time on.
struct Since {
  std::uint64_t id = 0;
  std::chrono::system_clock::time_point time{};
};
/// `since` of an events request: nothing, an id, or an RFC 3339 time. BAD_REQUEST for anything else.
ipc::Result<Since> since_of(ipc::JsonView since);
/// The last `count` (negative: all) events since then that `wanted` admits.
std::vector<Events::Event> history_since(const Events& events, const Since& since, std::int64_t count,
                                         const std::function<bool(const Decision&)>& wanted);

}  // namespace plumberd
