// A decision (docs/protocol.md, section 7) as people read it.
#pragma once
#include <string>

#include "ipc/json.hh"

namespace plumb {

/// A numbered list of the steps, the verdict with its rule, and where it would lead. Several lines.
std::string decision_as_list(ipc::JsonView decision);
/// One line, for events.
std::string decision_as_line(ipc::JsonView decision);
/// The exit status of the request that was decided so.
int exit_status_of_decision(ipc::JsonView decision);

}  // namespace plumb
