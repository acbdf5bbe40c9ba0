// Methods of the native door that show and change the router rather than connect: list, explain, events,
// status, reload, ...
#include <unistd.h>

#include "ipc/name.hh"
#include "plumberd/explain.hh"
#include "plumberd/native_door.hh"
#include "plumberd/reload.hh"
#include "plumberd/supposed.hh"
#include "plumberd/views.hh"

namespace plumberd {
namespace {
std::string errors_json(const std::vector<Diagnostic>& diagnostics) {
  std::string text;
  ipc::JsonWriter json{text};
  json.array();
  for (const auto& diagnostic : diagnostics) {
    if (text.size() > 48 * 1024)
      break;  // the answer is one message; what is left out comes after these are mended
    json.string(diagnostic.print());
  }
  json.end();
  return text;
}

bool is_own(const Decision& decision, uid_t uid) {
  return decision.client.known && decision.client.uid == uid;
}
}  // namespace

namespace {
using Type = Param::Type;
constexpr std::array connect_params{Param{"service", Type::text},  Param{"uri", Type::text},
                                    Param{"networkd", Type::text}, Param{"labels", Type::labels},
                                    Param{"decision", Type::flag}, Param{"ktls", Type::flag}};
constexpr std::array serve_params{Param{"service", Type::text}, Param{"shared", Type::flag},
                                  Param{"ktls", Type::flag}};
constexpr std::array explain_params{Param{"service", Type::text},   Param{"uri", Type::text},
                                    Param{"networkd", Type::text},  Param{"labels", Type::labels},
                                    Param{"direction", Type::text}, Param{"as", Type::text},
                                    Param{"from", Type::text}};
constexpr std::array events_params{Param{"count", Type::count}, Param{"follow", Type::flag},
                                   Param{"all", Type::flag}};
constexpr std::array rules_params{Param{"offset", Type::count}};
constexpr std::array reload_params{Param{"confirm", Type::count}};
}  // namespace

const std::array<Session::Method, 11> Session::methods{
    {{"connect", Access::anybody, &Session::connect, connect_params},
     {"serve", Access::anybody, &Session::serve, serve_params},
     {"ping", Access::anybody, &Session::ping},
     {"list", Access::counted, &Session::list},
     {"explain", Access::counted, &Session::explain, explain_params},
     {"events", Access::counted, &Session::events, events_params},
     {"status", Access::operators, &Session::status},
     {"rules", Access::operators, &Session::rules, rules_params},
     {"reload", Access::operators, &Session::reload, reload_params},
     {"confirm", Access::operators, &Session::confirm},
     {"metrics", Access::operators, &Session::metrics}}};

void Session::ping(const Incoming& incoming) {
  channel_.answer(incoming.message.id, "{\"version\":\"" PLUMBERD_VERSION "\"}");
}

void Session::list(const Incoming& incoming) {
  channel_.answer(incoming.message.id, list_json(router_, [this](const std::string& service) {
                    const Question question{.direction = Direction::local, .service = service};
                    return judge_as(*router_.config->rules, question, *identity_).kind ==
                           Verdict::Kind::allow;
                  }));
}

void Session::explain(const Incoming& incoming) {
  const auto params = incoming.message.params;
  const auto as = params["as"].string_or("");
  const auto direction = params["direction"].string_or("out");
  const bool inbound = direction == "in";
  if (!inbound && direction != "out")
    return refuse(incoming, {ipc::Word::bad_request, "direction is neither out nor in"});
  if ((!as.empty() || inbound) && !is_operator())
    return refuse(incoming,
                  {ipc::Word::denied, "explaining for others is for root, the router's user and [admin]"});
  if (inbound) return explain_inbound(incoming);
  auto ask = ask_of_params(params);
  if (!ask) return refuse(incoming, std::move(ask).error());
  Principals principals;
  auto supposed =
      suppose(as, Direction::out, "*", "", known_schemes(*router_.config), ::geteuid(), principals);
  if (!supposed) return refuse(incoming, std::move(supposed).error());
  auto decision =
      plumberd::explain(router_, *ask, as.empty() ? Asker{identity_} : Asker{std::move(supposed->facts)});
  channel_.answer(incoming.message.id, to_json(disclosed(std::move(decision))));
}

void Session::explain_inbound(const Incoming& incoming) {
  const auto params = incoming.message.params;
  const auto service = params["service"].string_or("");
  const auto from = params["from"].string_or("");
  Principals principals;
  auto supposed = suppose(params["as"].string_or(""), Direction::in, service, from,
                          known_schemes(*router_.config), ::geteuid(), principals);
  if (!supposed) return refuse(incoming, std::move(supposed).error());
  auto decision = explain_in(router_, std::string(service), Asker{supposed->facts}, supposed->question());
  if (decision.peer.empty()) decision.peer = from;
  channel_.answer(incoming.message.id, to_json(decision));
}

/// A subscriber that does not read loses events, and is told how many.
void Session::send_event(const Decision& decision) {
  constexpr std::size_t most_queued = 1024;  // the whole history
  constexpr std::size_t most_bytes = 1024 * 1024;
  if (channel_.queued_messages() >= most_queued || channel_.queued_bytes() >= most_bytes) {
    ++lost_events_;
    return;
  }
  std::string params = "{\"decision\":" + to_json(decision);
  if (lost_events_ > 0) params += ",\"lost\":" + std::to_string(lost_events_);
  if (channel_.notify("event", params + "}")) lost_events_ = 0;
}

/// What the client may see it sees as it may now: a reload can have taken [admin] from it.
void Session::show_event(const Decision& decision, bool all) {
  if ((all && is_operator()) || is_own(decision, uid())) send_event(disclosed(decision));
}

/// With `follow` false the answer comes after the history and ends it; otherwise it comes first and the
/// events never end.
void Session::events(const Incoming& incoming) {
  const auto params = incoming.message.params;
  const auto since = since_of(params["since"]);
  if (!since) return refuse(incoming, since.error());
  const bool follow = params["follow"].boolean_or(true);
  const bool all = params["all"].boolean_or(true);
  auto ticket = follow ? router_.accounts.follow_events(uid()) : Accounts::Ticket{};
  if (!ticket) return refuse(incoming, ticket.error());
  if (follow) channel_.answer(incoming.message.id, "{}");
  const bool everybodys = all && is_operator();
  for (const auto& event : history_since(router_.events, *since, params["count"].integer_or(-1),
                                         [&](const Decision& d) { return everybodys || is_own(d, uid()); }))
    show_event(*event, all);
  if (!follow) return channel_.answer(incoming.message.id, "{}");
  following_ = std::move(*ticket);
  subscription_ =
      router_.events.subscribe([this, all](const Events::Event& event) { show_event(*event, all); });
}

void Session::status(const Incoming& incoming) {
  channel_.answer(incoming.message.id, status_json(router_, door_.sessions()));
}

void Session::rules(const Incoming& incoming) {
  const auto offset = incoming.message.params["offset"].integer_or(0);
  channel_.answer(incoming.message.id,
                  rules_json(router_, static_cast<std::size_t>(std::max<std::int64_t>(0, offset))));
}

void Session::reload(const Incoming& incoming) {
  const auto confirm = incoming.message.params["confirm"].integer();
  const auto seconds = confirm.value_or(0);
  if (confirm && (seconds < 1 || seconds > 86'400))
    return refuse(incoming, {ipc::Word::bad_request, "confirm is 1 to 86400 seconds"});
  door_.reloader().reload(static_cast<unsigned>(seconds), [this, alive = alive_, id = incoming.message.id](
                                                              const Reloaded& outcome) {
    if (!*alive) return;
    if (!outcome.error) {
      std::string text;
      ipc::JsonWriter{text}
          .object()
          .add("generation", static_cast<std::int64_t>(outcome.generation))
          .key("warnings")
          .raw(errors_json(outcome.diagnostics))
          .end();
      return channel_.answer(id, text);
    }
    channel_.refuse(id, *outcome.error, "\"errors\":" + errors_json(outcome.diagnostics));
  });
}

void Session::confirm(const Incoming& incoming) {
  if (auto ok = door_.reloader().confirm(); !ok) return refuse(incoming, std::move(ok).error());
  channel_.answer(incoming.message.id, "{\"generation\":" + std::to_string(router_.config->generation) + "}");
}

void Session::metrics(const Incoming& incoming) {
  std::string text;
  ipc::JsonWriter{text}.object().add("text", metrics_text(router_)).end();
  channel_.answer(incoming.message.id, text);
}
}  // namespace plumberd
