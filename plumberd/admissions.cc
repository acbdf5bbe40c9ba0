#include "plumberd/admissions.hh"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>

#include "ipc/name.hh"
#include "plumberd/request.hh"
#include "plumberd/router.hh"
#include "plumberd/unix_connect.hh"

namespace plumberd {
namespace {
constexpr unsigned most_hops = 8;
constexpr std::size_t most_reservations = 16'384;

std::string label(const ipc::Labels& labels, std::string_view name) {
  const auto found = labels.find(name);
  return found == labels.end() ? std::string{} : found->second;
}

/// What the helper authenticated of the peer: the only names that rules see.
Facts facts_of(const ipc::Labels& labels) {
  Facts facts;
  facts.is_local = false;
  facts.psk_identity = label(labels, "psk.identity");
  for (auto names = label(labels, "cert.names"); !names.empty();) {
    const auto end = std::min(names.find(' '), names.size());
    facts.cert_names.push_back(names.substr(0, end));
    names.erase(0, std::min(end + 1, names.size()));
  }
  if (const auto name = label(labels, "cert.name"); !name.empty()) facts.cert_names.push_back(name);
  return facts;
}

/// Who was at the other end, for the record.
ipc::Labels proved_of(const ipc::Labels& labels) {
  ipc::Labels proved;
  for (const auto* name : {"cert.names", "cert.name", "cert.fingerprint", "psk.identity"})
    if (auto value = label(labels, name); !value.empty()) proved.emplace(name, std::move(value));
  if (proved.contains("cert.names")) proved.erase("cert.name");  // one of them
  return proved;
}

std::string peer_of(const Listeners::Bound& bound, const ipc::Labels& labels) {
  return bound.scheme + ":" + label(labels, "peer.address") + ":" + label(labels, "peer.port");
}

/// Labels for the service: the helper's own, what the far host claims under `claimed.`, and the name.
ipc::Labels labels_for_service(const Inbound& inbound, const std::string& service) {
  ipc::Labels labels;
  for (const auto& [key, value] : inbound.labels)
    if (!key.starts_with("claimed.") && !key.starts_with("client.")) labels[key] = value;
  for (const auto& [key, value] : inbound.claims) labels["claimed." + key] = value;
  labels["service"] = service;
  return labels;
}
}  // namespace

struct Admissions::Entry {
  Inbound inbound;
  Answer answer;
  std::shared_ptr<const Config> config;
  Decision decision{};
  Target target{};  ///< where the redirects led
  std::uint64_t began = 0;
  Tally::Mark mark{};
  std::unique_ptr<PatientConnect> opening{};
  /// The name finally opened.
  const std::string& service() const { return target.service; }
};

void Admissions::refuse(Entry& entry, ipc::Error error) { refuse(entry, error, error); }

/// `told`: what the peer may know of `error`.
void Admissions::refuse(Entry& entry, ipc::Error error, ipc::Error told) {
  router_.conclude(std::move(entry.decision), std::unexpected(std::move(error)));
  entry.answer(std::unexpected(std::move(told)));
}

/// For what names a service or a path behind a redirect.
void Admissions::refuse_hidden(Entry& entry, ipc::Error error) {
  auto hidden = told(entry, error.word);
  refuse(entry, std::move(error), std::move(hidden));
}

/// Redirects first, so that the name judged is the one opened; then `in`; only then whether the service is
/// there at all.
void Admissions::admit(Inbound inbound, Answer answer) {
  Entry entry{.inbound = std::move(inbound),
              .answer = std::move(answer),
              .config = router_.config,
              .began = uv_hrtime()};
  const auto* bound = router_.listeners.find(entry.inbound.listen);
  if (bound != nullptr && !bound->listen.service.empty()) entry.inbound.service = bound->listen.service;
  entry.target.service = entry.inbound.service;
  begin_decision(entry);
  if (bound == nullptr) return refuse(entry, {ipc::Word::internal, "the listener is gone"});
  auto located = locate(entry, *bound);
  if (!located && located.error().word == ipc::Word::bad_request)
    return refuse(entry, std::move(located).error());
  if (auto ok = judge(entry, *bound); !ok) return refuse(entry, std::move(ok).error());
  if (!located) return refuse(entry, std::move(located).error());
  if (pending_.of(entry.service()) >= entry.config->limits.pending_requests)
    return refuse_hidden(entry,
                         {ipc::Word::busy, "too many connections to " + entry.service() + " are under way"});
  entry.mark = pending_.add(entry.service());
  open(std::move(entry), bound->listen.transit);
}

void Admissions::note_failure(Inbound inbound, ipc::Error error) {
  const auto* bound = router_.listeners.find(inbound.listen);
  if (bound == nullptr) return;
  Entry entry{.inbound = std::move(inbound), .answer = [](const auto&) {}, .config = router_.config};
  entry.inbound.service = bound->listen.service;
  begin_decision(entry);
  entry.decision.peer = peer_of(*bound, entry.inbound.labels);
  refuse(entry, std::move(error));
}

void Admissions::begin_decision(Entry& entry) {
  router_.events.stamp(entry.decision);
  entry.decision.generation = entry.config->generation;
  entry.decision.direction = Direction::in;
  entry.decision.asked = ipc::printable(entry.inbound.service);
}

ipc::Result<> Admissions::locate(Entry& entry, const Listeners::Bound& bound) {
  auto& decision = entry.decision;
  auto& labels = entry.inbound.labels;
  labels["scheme"] = bound.scheme;
  decision.peer = peer_of(bound, labels);
  decision.proved = proved_of(labels);
  if (entry.inbound.hops > most_hops) return ipc::fail(ipc::Word::loop, "more than 8 hops");
  auto routed = TRY(route(*entry.config, {.service = entry.inbound.service,
                                          .from_outside = true,
                                          .transit = bound.listen.transit,
                                          .by_listener = !bound.listen.service.empty(),
                                          .is_local = [](std::string_view) { return true; }}));
  decision.steps = std::move(routed.steps);
  entry.target = std::move(routed.targets.front());
  decision.opened = entry.service();
  decision.ms_route = static_cast<double>(uv_hrtime() - entry.began) / 1e6;
  return {};
}

ipc::Result<> Admissions::judge(Entry& entry, const Listeners::Bound& bound) {
  const auto address = ipc::parse_address(label(entry.inbound.labels, "peer.address"));
  Asker asker{facts_of(entry.inbound.labels)};
  auto verdict = asker.judge(*entry.config->rules, {.direction = Direction::in,
                                                    .service = entry.service(),
                                                    .scheme = bound.scheme,
                                                    .address = address ? &*address : nullptr,
                                                    .port = bound.port});
  if (verdict.kind == Verdict::Kind::need)  // and there is no more to know
    verdict = {.kind = Verdict::Kind::deny, .reason = "the peer has no address, and a rule needs it"};
  record(entry.decision, verdict);
  if (verdict.kind == Verdict::Kind::allow) return {};
  return std::unexpected(told(entry, ipc::Word::denied));
}

void Admissions::open(Entry entry, bool transit) {
  const auto kind = entry.target.kind;
  if (kind == Target::Kind::uri ||
      (kind == Target::Kind::local && transit && !router_.is_local(entry.service())))
    return pass_on(std::move(entry));
  if (kind == Target::Kind::local && router_.registry.has(entry.service())) return reserve(std::move(entry));
  if (kind == Target::Kind::path || router_.is_local(entry.service())) return connect(std::move(entry));
  const auto text = " is not offered here";
  refuse(entry, {ipc::Word::unknown_service, entry.service() + text},
         {ipc::Word::unknown_service, entry.decision.asked + text});
}

/// What a peer may know of what went wrong behind its back.
ipc::Error Admissions::told(const Entry& entry, ipc::Word word) {
  const auto& asked = entry.decision.asked;
  if (word == ipc::Word::denied) return {word, "in " + asked + " is denied"};
  if (word == ipc::Word::busy) return {word, asked + " has no room for more connections now; retry soon"};
  return {word, asked + " cannot be reached here now"};
}

/// Not to be guessed: one helper must not deliver into another's reservation.
std::string Admissions::new_token() {
  std::array<std::uint64_t, 2> random{};
  [[maybe_unused]] const auto size = ::getrandom(random.data(), sizeof random, 0);
  return fmt::format("{}-{:016x}{:016x}", next_token_++, random[0], random[1]);
}

void Admissions::reserve(Entry entry) {
  if (tokens_.size() >= most_reservations)
    return refuse(entry, {ipc::Word::busy, "too many connections are being accepted"});
  if (auto ok = router_.registry.check(entry.service()); !ok)
    return refuse_hidden(entry, std::move(ok).error());
  const auto token = new_token();
  Reservation reservation{.decision = std::move(entry.decision),
                          .service = entry.service(),
                          .labels = labels_for_service(entry.inbound, entry.service()),
                          .deadline = ipc::Timer{router_.loop, entry.config->limits.hop_timeout,
                                                 [this, token] { expire(token); }},
                          .mark = std::move(entry.mark)};
  tokens_.emplace(token, std::move(reservation));
  std::string result;
  ipc::JsonWriter json{result};
  json.object().add("token", token).add("mode", "deliver");
  if (router_.registry.takes_ktls(entry.service())) json.add("ktls", true);
  json.end();
  entry.answer(Helper::Admission{.result = std::move(result), .fd = {}});
}

void Admissions::expire(const std::string& token) {
  auto found = tokens_.extract(token);
  if (found.empty()) return;
  router_.conclude(std::move(found.mapped().decision),
                   ipc::fail(ipc::Word::timeout, "the peer went away before the connection was delivered"));
}

void Admissions::deliver(Delivery delivery) {
  auto fd = std::move(delivery.fd);
  auto found = tokens_.extract(delivery.token);
  if (found.empty()) return router_.log.warn("a helper delivered a connection without a valid token");
  auto& [decision, service, labels, deadline, mark] = found.mapped();
  const std::array judged{label(labels, "peer.address")};
  auto outcome = check_peer(label(labels, "scheme"), delivery.socket, judged, 0);
  if (outcome) outcome = ipc::set_blocking(fd.borrow(), true);
  if (outcome)
    outcome = router_.registry.deliver(service, fd.borrow(), labels, delivery.first, delivery.path == "ktls");
  fd = {};  // at once: the last to close it would wait for what its new owner left unsent (SO_LINGER)
  decision.path = outcome ? delivery.path : "";
  router_.conclude(std::move(decision), outcome);
}

ipc::Result<> Admissions::check_relays(const Entry& entry) const {
  if (entry.inbound.relays < entry.config->limits.connections) return {};
  return ipc::fail(ipc::Word::busy, entry.service() + " has " + std::to_string(entry.inbound.relays) +
                                        " relayed connections, its limit");
}

/// Whoever listens on an unguarded name must be allowed to offer it (`serve`).
ipc::Result<> Admissions::judge_owner(Entry& entry, int socket) {
  Asker owner{std::make_shared<Identity>(TRY(Identity::of_peer(socket)))};
  if (owner_may_serve(*entry.config, entry.service(), std::move(owner), entry.decision)) return {};
  return std::unexpected(denial(entry.decision, false));
}

/// An unguarded service, or a UNIX socket that a redirect leads to: the helper relays between it and the
/// peer.
void Admissions::connect(Entry entry) {
  if (auto ok = check_relays(entry); !ok) return refuse_hidden(entry, std::move(ok).error());
  auto shared = std::make_shared<Entry>(std::move(entry));
  const auto attempt = [this, waiting = shared.get()] { return open_service(*waiting); };
  auto done = [this, shared](ipc::Result<ipc::Fd> socket) { connected(*shared, std::move(socket)); };
  // The dialler waits as long as our own dials would: half of it, so that our word still finds it there.
  shared->opening = std::make_unique<PatientConnect>(router_.loop, shared->config->limits.hop_timeout / 2,
                                                     attempt, std::move(done));
  shared->opening->start();
}

ipc::Result<ipc::Fd> Admissions::open_service(const Entry& entry) const {
  const auto& uri = entry.target.uri;
  if (entry.target.kind == Target::Kind::path) return connect_unix(uri.path, socket_type(uri.type));
  // To a datagram helper's peers first as a socket that keeps datagrams apart.
  if (label(entry.inbound.labels, "scheme") == "udp")
    if (auto socket = router_.rundir.connect(entry.service(), SOCK_SEQPACKET)) return socket;
  return router_.rundir.connect(entry.service(), SOCK_STREAM);
}

void Admissions::connected(Entry& entry, ipc::Result<ipc::Fd> socket) {
  const bool by_path = entry.target.kind == Target::Kind::path;
  if (!socket) return refuse_hidden(entry, std::move(socket).error());
  if (auto ok = by_path ? ipc::Result<>{} : judge_owner(entry, socket->borrow()); !ok)
    return refuse_hidden(entry, std::move(ok).error());
  relay(entry, std::move(*socket));
}

void Admissions::relay(Entry& entry, ipc::Fd service, bool onward) {
  entry.decision.path = "relay";
  router_.conclude(std::move(entry.decision), {});
  std::string result;
  ipc::JsonWriter json{result};
  json.object().add("token", new_token()).add("mode", "relay").add("fd", std::int64_t{0});
  if (onward) json.add("onward", true);
  json.end();
  entry.answer(Helper::Admission{.result = std::move(result), .fd = std::move(service)});
}

/// `transit = true`: on to another host, judged again as `out` of no user, relayed by the helper.
void Admissions::pass_on(Entry entry) {
  if (auto ok = check_relays(entry); !ok) return refuse_hidden(entry, std::move(ok).error());
  Ask ask{.service = entry.service(),
          .framing = entry.inbound.framing,
          .claims = entry.inbound.claims,
          .hops = entry.inbound.hops + 1,
          .transit = true,
          .onward = entry.inbound.onward};
  auto shared = std::make_shared<Entry>(std::move(entry));
  Request::start(router_, std::move(ask), Asker{Facts{}},
                 [this, shared](ipc::Result<Connection> outcome, const Decision&) {
                   if (!outcome) return refuse_hidden(*shared, std::move(outcome).error());
                   relay(*shared, std::move(outcome->fd), outcome->onward);
                 });
}
}  // namespace plumberd
