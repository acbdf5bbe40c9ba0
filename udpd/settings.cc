#include "udpd/settings.hh"

#include <algorithm>

namespace udpd {
namespace {
std::size_t count(ipc::JsonView value, std::size_t otherwise) {
  constexpr std::int64_t most = 1'000'000;
  const auto wanted = value.integer_or(static_cast<std::int64_t>(otherwise));
  return static_cast<std::size_t>(std::clamp<std::int64_t>(wanted, 0, most));
}
}  // namespace

SocketOptions socket_options(ipc::JsonView settings) {
  return {.fragment = settings["fragment"].boolean_or(false)};
}

Limits limits(const ipc::ListenRequest& request) {
  Limits bounds;
  bounds.flows = count(request.settings["flows"], bounds.flows);
  bounds.flows_per_prefix = count(request.settings["flows_per_prefix"], bounds.flows_per_prefix);
  bounds.direct_flows = count(request.settings["direct_flows"], bounds.direct_flows);
  if (request.relay_idle.count() > 0) bounds.idle = request.relay_idle;
  return bounds;
}
}  // namespace udpd
