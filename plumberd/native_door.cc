#include "plumberd/native_door.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "plumberd/views.hh"

namespace plumberd {
namespace {
// The loop announces whoever else waits; looking for them with one accept too many costs more than a turn
// does (the kernel makes the socket first and then finds nobody).
constexpr int accepts_per_turn = 1;
constexpr std::uint64_t recount_every_ms = 10;
// Who does not read is not answered, and then not read from: a client costs us what the kernel holds and
// this.
constexpr ipc::ChannelLimits session_limits{.queued_messages = 2048,
                                            .queued_bytes = 2 * 1024 * 1024,
                                            .unread_fds = 256,
                                            .takes_fds = false,
                                            .reads_while_queued = false};

/// `decision`: JSON, or nothing.
std::string connect_result(const Connection& connection, const std::string& decision) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add("fd", std::int64_t{0}).add("path", connection.path).add("labels", connection.labels);
  if (!decision.empty()) json.key("decision").raw(decision);
  json.end();
  return text;
}
}  // namespace

NativeDoor::NativeDoor(Router& router, Reloader& reloader, ipc::Fd listener)
    : router_{router},
      reloader_{reloader},
      slow_lane_{router.loop},
      acceptor_{router.loop,       router.log,
                "the native door", std::move(listener),
                accepts_per_turn,  [this](ipc::StrangerFd socket) { admit(std::move(socket)); }} {}

void NativeDoor::admit(ipc::StrangerFd socket) {
  auto identity = Identity::of_peer(socket.borrow());
  if (!identity) return;
  auto ticket = router_.accounts.open_connection(identity->uid(), router_.config->limits);
  if (!ticket) {
    ipc::send_with_fds(socket.borrow(), ipc::rpc::error("null", ticket.error()), {});
    return;
  }
  auto session =
      std::make_unique<Session>(*this, std::move(socket), std::move(*identity), std::move(*ticket));
  auto* key = session.get();
  sessions_.emplace(key, std::move(session));
}

bool NativeDoor::recount(uid_t uid, const Accounts::Unread& unread) {
  const auto now = router_.loop.now();
  if (uid == full_uid_ && now - full_since_ < recount_every_ms) return false;
  for (const auto& [session, owner] : sessions_)
    if (session->uid() == uid) session->recount();
  if (unread.may_grow()) return true;
  full_uid_ = uid;
  full_since_ = now;
  return false;
}

/// Later, because the session's own channel may be calling.
void NativeDoor::end(Session* session) {
  router_.loop.post([this, session] { sessions_.erase(session); });
}

Session::Session(NativeDoor& door, ipc::StrangerFd socket, Identity identity, Accounts::Ticket ticket)
    : door_{door},
      router_{door.router()},
      identity_{std::make_shared<Identity>(std::move(identity))},
      ticket_{std::move(ticket)},
      unread_{router_.accounts, identity_->uid()},
      channel_{door.router().loop,
               std::move(socket),
               {.on_request = [this](Incoming incoming) { on_request(std::move(incoming)); },
                .on_notification = {},
                .on_closed =
                    [this](const ipc::Error&) {
                      cancel_requests();
                      router_.registry.withdraw(*this);
                      door_.end(this);
                    }},
               session_limits} {}

Session::~Session() {
  *alive_ = false;
  router_.registry.withdraw(*this);
  cancel_requests();
}

void Session::cancel_requests() {
  for (auto& [id, pending] : std::exchange(requests_, {}))
    if (pending.request) pending.request->cancel();
}

bool Session::has_room() {
  if (!channel_.has_room_for_fd()) return false;
  return unread_.may_grow() || door_.recount(uid(), unread_);
}

bool Session::is_operator() const { return plumberd::is_operator(*router_.config, *identity_); }

void Session::on_request(Incoming incoming) {
  const auto* method = std::ranges::find(methods, incoming.message.method, &Method::name);
  if (method == methods.end()) {
    const auto name = ipc::printable(incoming.message.method, 64);
    return channel_.refuse(incoming.message.id, {ipc::Word::bad_request, "there is no method " + name}, {},
                           -32601);
  }
  const bool is_free = method->access == Access::anybody || is_operator();
  if (is_free) return handle(*method, incoming);
  if (method->access == Access::counted) return in_its_turn(*method, std::move(incoming));
  refuse(incoming,
         {ipc::Word::denied, std::string(method->name) + " is for root, the router's user and [admin]"});
}

void Session::handle(const Method& method, const Incoming& incoming) {
  if (auto ok = check_params(incoming.message.params, method.params); !ok)
    return refuse(incoming, std::move(ok).error());
  (this->*method.handle)(incoming);
}

void Session::in_its_turn(const Method& method, Incoming incoming) {
  if (!door_.slow_lane().has_room(uid()))
    return refuse(incoming,
                  {ipc::Word::busy, "too many questions of uid " + std::to_string(uid()) + " wait"});
  auto ticket = router_.accounts.begin_request(uid(), router_.config->limits, router_.loop.now());
  if (!ticket) return refuse(incoming, ticket.error());
  const auto held =
      std::make_shared<std::pair<Incoming, Accounts::Ticket>>(std::move(incoming), std::move(*ticket));
  door_.slow_lane().run(uid(), [this, alive = alive_, &method, held] {
    if (*alive) handle(method, held->first);
  });
}

/// Who is told that a limit is reached is told when to come back.
void Session::refuse(const std::string& id, const ipc::Error& error, std::string extra) {
  if (error.word == ipc::Word::busy && !error.far) {
    const auto wait = router_.accounts.retry_after_ms(uid(), router_.config->limits);
    extra += (extra.empty() ? "" : ",") + ("\"retry_after_ms\":" + std::to_string(wait));
  }
  channel_.refuse(id, error, extra);
}

void Session::connect(const Incoming& incoming) {
  auto ask = ask_of_params(incoming.message.params);
  if (!ask) return refuse(incoming, std::move(ask).error());
  const auto& id = incoming.message.id;
  if (requests_.contains(id))
    return refuse(incoming, {ipc::Word::bad_request, "a request with this id is under way"});
  if (!has_room()) return refuse(incoming, {ipc::Word::busy, "read the descriptors that were sent already"});
  auto ticket = router_.accounts.begin_request(uid(), router_.config->limits, router_.loop.now());
  if (!ticket) return refuse(incoming, ticket.error());
  requests_.emplace(id, Pending{std::move(*ticket), incoming.message.params["decision"].boolean_or(false)});
  auto done = [this, alive = alive_, id](ipc::Result<Connection> outcome, const Decision& decision) {
    if (*alive) connected(id, std::move(outcome), decision);
  };
  auto request = Request::start(router_, std::move(*ask), Asker{identity_}, std::move(done));
  if (const auto found = requests_.find(id); found != requests_.end())  // else it is answered already
    found->second.request = std::move(request);
}

void Session::connected(const std::string& id, ipc::Result<Connection> outcome, const Decision& decision) {
  const auto pending = requests_.extract(id);
  const bool with_decision = !pending.empty() && pending.mapped().with_decision;
  const auto shown = with_decision ? to_json(disclosed(decision)) : std::string{};
  if (!outcome) return refuse(id, outcome.error(), with_decision ? "\"decision\":" + shown : shown);
  if (!has_room()) return refuse(id, {ipc::Word::busy, "read the descriptors that were sent already"});
  const int fd = outcome->fd.borrow();
  unread_.add(1);
  channel_.answer(id, connect_result(*outcome, shown), {&fd, 1});
}

/// As its client may see it.
Decision Session::disclosed(Decision decision) const {
  if (!router_.config->denied_detail && !identity_->is_owner()) hide_rules(decision);
  return decision;
}

void Session::serve(const Incoming& incoming) {
  const std::string service{incoming.message.params["service"].string_or("")};
  if (auto ok = ipc::check_service_name(service); !ok) return refuse(incoming, std::move(ok).error());
  const auto ticket = router_.accounts.begin_request(uid(), router_.config->limits, router_.loop.now());
  if (!ticket) return refuse(incoming, ticket.error());
  Decision decision{.generation = router_.config->generation,
                    .direction = Direction::serve,
                    .asked = service,
                    .opened = service};
  router_.events.stamp(decision);
  const auto verdict =
      judge_as(*router_.config->rules, {.direction = Direction::serve, .service = service}, *identity_);
  record(decision, verdict);
  decision.client = identity_->who();
  auto outcome =
      verdict.kind == Verdict::Kind::allow
          ? router_.registry.offer(service, *this, incoming.message.params["shared"].boolean_or(false))
          : std::unexpected(denial(decision, router_.config->denied_detail || identity_->is_owner()));
  router_.conclude(std::move(decision), outcome);
  if (!outcome) return refuse(incoming, std::move(outcome).error());
  if (incoming.message.params["ktls"].boolean_or(false)) takes_ktls_.insert(service);
  channel_.answer(incoming.message.id, "{}");
}

ipc::Result<> Session::accepted(std::string_view service, int fd, const ipc::Labels& labels,
                                std::string_view first) {
  std::string params;
  ipc::JsonWriter json{params};
  json.object().add("service", service).add("fd", std::int64_t{0}).add("labels", labels);
  if (!first.empty()) json.key("first").raw(first);
  json.end();
  TRY(channel_.notify("accepted", params, {&fd, 1}));
  unread_.add(1);
  return {};
}
}  // namespace plumberd
