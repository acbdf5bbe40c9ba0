// plumb explain, plumb events: decisions shown.
#include <algorithm>
#include <charconv>

#include "ipc/name.hh"
#include "plumb/decision.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
std::string explain_params(const Request& request) {
  std::string params;
  ipc::JsonWriter json{params};
  json.object().add(std::string_view(request.is_uri() ? "uri" : "service"), request.subject);
  const auto networkd = request.networkd ? request.networkd : ipc::environment_networkd();
  if (networkd && !request.is_uri() && !request.inbound)
    json.add("networkd", ipc::directives_of(*networkd, request.subject));
  json.add_if("as", request.as);
  if (request.inbound) json.add("direction", "in").add("from", request.from);
  json.end();
  return params;
}

std::string events_params(const Request& request) {
  std::string params;
  ipc::JsonWriter json{params};
  json.object().add("follow", request.follow);
  if (request.count >= 0) json.add("count", std::int64_t{request.count});
  std::int64_t id = 0;
  const auto* end = request.since.data() + request.since.size();
  const bool is_id = std::from_chars(request.since.data(), end, id).ptr == end;
  if (is_id && !request.since.empty())
    json.add("since", id);
  else
    json.add_if("since", request.since);
  json.end();
  return params;
}

void show_event(const Request& request, ipc::JsonView decision) {
  put_line(request.json ? decision.text() : decision_as_line(decision));
}

/// Shows events until the answer that ends them (without `-f`), or for ever.
int show_events(const Request& request, ipc::Door& door, const std::string& id) {
  using Kind = ipc::rpc::Message::Kind;
  for (;;) {
    auto incoming = door.receive(request.follow ? ipc::Deadline::never() : ipc::Deadline{request.patience()});
    if (!incoming) return fail_with(request, incoming.error());
    const auto& message = incoming->message;
    if (message.kind == Kind::error) return fail_with(request, message.failure, message.error_data);
    if (message.kind == Kind::result && message.id == id && !request.follow) return 0;
    if (message.method == "event") show_event(request, message.params["decision"]);
  }
}
}  // namespace

int run_explain(const Request& request) {
  if (!request.is_uri())
    if (const auto ok = ipc::check_service_name(request.subject); !ok) return fail_with(request, ok.error());
  const auto asked = ask_router(request, "explain", explain_params(request));
  if (!asked.ok()) return fail_with(request, asked);
  const auto decision = asked.answer->message.result;
  put(request.json ? decision.text() + "\n" : decision_as_list(decision));
  return exit_status_of_decision(decision);
}

int run_events(const Request& request) {
  const ipc::Deadline deadline{request.patience()};
  auto router = ipc::find_router(request.rundir, deadline);
  if (!router.door) return fail_with(request, router.door.error());
  const auto id = router.door->request("events", events_params(request), deadline);
  if (!id) return fail_with(request, id.error());
  return show_events(request, *router.door, *id);
}
}  // namespace plumb
