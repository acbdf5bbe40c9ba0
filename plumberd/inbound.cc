#include "plumberd/inbound.hh"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>

#include "ipc/name.hh"
#include "plumberd/request.hh"
#include "plumberd/router.hh"

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

/// Labels for the service: the helper's own, what the far host claims under `claimed.`, and the name.
ipc::Labels labels_for_service(const Inbound& inbound, const std::string& service) {
  ipc::Labels labels;
  for (const auto& [key, value] : inbound.labels)
    if (!key.starts_with("claimed.") && !key.starts_with("client.")) labels[key] = value;
  for (const auto& [key, value] : inbound.claims) labels["claimed." + key] = value;
  labels["service"] = service;
  return labels;
}

/// To a datagram helper's peers first as a socket that keeps datagrams apart.
ipc::Result<ipc::Fd> connect_service(const RunDir& rundir, const std::string& service,
                                     std::string_view scheme) {
  if (scheme == "udp")
    if (auto socket = rundir.connect(service, SOCK_SEQPACKET)) return socket;
  return rundir.connect(service, SOCK_STREAM);
}
}  // namespace

struct Admissions::Entry {
  Inbound inbound;
  Answer answer;
  std::shared_ptr<const Config> config;
  Decision decision;
  std::string service;  ///< the name finally opened
  bool transit = false;
  std::uint64_t began = 0;
  Tally::Mark mark{};
};

void Admissions::refuse(Entry& entry, ipc::Error error) {
  auto& decision = entry.decision;
  decision.failed = true;
  decision.error = error;
  router_.stats.count(decision);
  router_.events.publish(std::move(decision));
  entry.answer(std::unexpected(std::move(error)));
}

/// Redirects first, so that the name judged is the one opened; then `in`; only then whether the service is
/// there at all.
void Admissions::admit(Inbound inbound, Answer answer) {
  Entry entry{.inbound = std::move(inbound),
              .answer = std::move(answer),
              .config = router_.config,
              .began = uv_hrtime()};
  auto& decision = entry.decision;
  router_.events.stamp(decision);
  decision.generation = entry.config->generation;
  decision.direction = Direction::in;
  decision.asked = ipc::printable(entry.inbound.service);
  const auto address = ipc::parse_address(label(entry.inbound.labels, "peer.address"));
  const auto* bound = router_.listeners.find(entry.inbound.listen);
  if (bound == nullptr) return refuse(entry, {ipc::Word::internal, "the listener is gone"});
  entry.inbound.labels["scheme"] = bound->scheme;
  if (!bound->listen.service.empty()) entry.inbound.service = bound->listen.service;
  decision.asked = ipc::printable(entry.inbound.service);
  decision.peer = bound->scheme + ":" + label(entry.inbound.labels, "peer.address") + ":" +
                  label(entry.inbound.labels, "peer.port");
  entry.transit = bound->listen.transit;
  if (auto ok = ipc::check_service_name(entry.inbound.service); !ok)
    return refuse(entry, std::move(ok).error());
  if (entry.inbound.hops > most_hops) return refuse(entry, {ipc::Word::loop, "more than 8 hops"});
  const RouteQuestion question{.service = entry.inbound.service,
                               .from_outside = true,
                               .is_local = [](std::string_view) { return true; }};
  auto routed = route(*entry.config, question);
  if (!routed) return refuse(entry, std::move(routed).error());
  decision.steps = routed->steps;
  const auto& target = routed->targets.front();
  entry.service = target.service;
  decision.opened = target.service;
  decision.ms_route = static_cast<double>(uv_hrtime() - entry.began) / 1e6;
  Asker asker{facts_of(entry.inbound.labels)};
  const auto verdict = asker.judge(*entry.config->rules, {.direction = Direction::in,
                                                          .service = target.service,
                                                          .scheme = bound->scheme,
                                                          .address = address ? &*address : nullptr,
                                                          .port = bound->port});
  record(decision, verdict);
  if (verdict.kind != Verdict::Kind::allow) return refuse(entry, denial(decision, false));
  if (pending_.of(entry.service) >= entry.config->limits.pending_requests)
    return refuse(
        entry, {ipc::Word::busy, "too many connections to " + entry.service + " are under way; retry soon"});
  entry.mark = pending_.add(entry.service);
  if (entry.transit && !router_.is_local(entry.service)) return admit_transit(std::move(entry));
  admit_local(std::move(entry));
}

void Admissions::admit_local(Entry entry) {
  if (router_.registry.has(entry.service)) return reserve(std::move(entry));
  if (router_.is_local(entry.service)) return connect(std::move(entry));
  const auto text = entry.service + " is not offered here";
  refuse(entry, {ipc::Word::unknown_service, text});
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
  if (auto ok = router_.registry.check(entry.service); !ok) return refuse(entry, std::move(ok).error());
  const auto token = new_token();
  Reservation reservation{.decision = std::move(entry.decision),
                          .service = entry.service,
                          .labels = labels_for_service(entry.inbound, entry.service),
                          .deadline = ipc::Timer{router_.loop, entry.config->limits.hop_timeout,
                                                 [this, token] { expire(token); }},
                          .mark = std::move(entry.mark)};
  tokens_.emplace(token, std::move(reservation));
  std::string result;
  ipc::JsonWriter json{result};
  json.object().add("token", token).add("mode", "deliver");
  if (router_.registry.takes_ktls(entry.service)) json.add("ktls", true);
  json.end();
  entry.answer(Helper::Admission{.result = std::move(result), .fd = {}});
}

void Admissions::expire(const std::string& token) {
  auto found = tokens_.extract(token);
  if (found.empty()) return;
  auto& decision = found.mapped().decision;
  decision.failed = true;
  decision.error = {ipc::Word::timeout, "the peer went away before the connection was delivered"};
  router_.stats.count(decision);
  router_.events.publish(std::move(decision));
}

void Admissions::deliver(Delivery delivery) {
  const auto& fd = delivery.fd;
  auto found = tokens_.extract(delivery.token);
  if (found.empty()) return router_.log.warn("a helper delivered a connection without a valid token");
  auto& [decision, service, labels, deadline, mark] = found.mapped();
  const std::array judged{label(labels, "peer.address")};
  auto outcome = check_peer(label(labels, "scheme"), delivery.socket, judged, 0);
  if (outcome) outcome = ipc::set_blocking(fd.borrow(), true);
  if (outcome)
    outcome = router_.registry.deliver(service, fd.borrow(), labels, delivery.first, delivery.path == "ktls");
  decision.path = outcome ? delivery.path : "";
  decision.failed = !outcome;
  if (!outcome) decision.error = std::move(outcome).error();
  router_.stats.count(decision);
  router_.events.publish(std::move(decision));
}

ipc::Result<> Admissions::check_relays(const Entry& entry) const {
  if (entry.inbound.relays < entry.config->limits.connections) return {};
  return ipc::fail(ipc::Word::busy, entry.service + " has " + std::to_string(entry.inbound.relays) +
                                        " relayed connections, its limit; retry when one has ended");
}

/// An unguarded service: the helper relays between the peer and its UNIX socket.
void Admissions::connect(Entry entry) {
  if (auto ok = check_relays(entry); !ok) return refuse(entry, std::move(ok).error());
  Ask ask{.service = entry.service, .hops = entry.inbound.hops, .from_outside = true};
  auto socket = connect_service(router_.rundir, entry.service, label(entry.inbound.labels, "scheme"));
  if (!socket) return refuse(entry, std::move(socket).error());
  auto owner = Identity::of_peer(socket->borrow());
  if (!owner) return refuse(entry, std::move(owner).error());
  const auto verdict =
      judge_as(*entry.config->rules, {.direction = Direction::serve, .service = entry.service}, *owner);
  if (verdict.kind != Verdict::Kind::allow) {
    entry.decision.direction = Direction::serve;
    record(entry.decision, verdict);
    return refuse(entry, denial(entry.decision, false));
  }
  entry.decision.path = "relay";
  router_.stats.count(entry.decision);
  router_.events.publish(std::move(entry.decision));
  std::string result;
  ipc::JsonWriter{result}
      .object()
      .add("token", new_token())
      .add("mode", "relay")
      .add("fd", std::int64_t{0})
      .end();
  entry.answer(Helper::Admission{.result = std::move(result), .fd = std::move(*socket)});
}

/// `transit = true`: on to another host, judged again as `out` of no user, relayed by the helper.
void Admissions::admit_transit(Entry entry) {
  if (auto ok = check_relays(entry); !ok) return refuse(entry, std::move(ok).error());
  Ask ask{.service = entry.service,
          .framing = entry.inbound.framing,
          .claims = entry.inbound.claims,
          .hops = entry.inbound.hops + 1};
  Facts nobody;
  auto shared = std::make_shared<Entry>(std::move(entry));
  const auto token = new_token();
  Request::start(
      router_, std::move(ask), Asker{nobody},
      [this, shared, token](ipc::Result<Connection> outcome, const Decision&) {
        if (!outcome) return refuse(*shared, std::move(outcome).error());
        shared->decision.path = "relay";
        router_.stats.count(shared->decision);
        router_.events.publish(std::move(shared->decision));
        std::string result;
        ipc::JsonWriter{result}
            .object()
            .add("token", token)
            .add("mode", "relay")
            .add("fd", std::int64_t{0})
            .end();
        shared->answer(Helper::Admission{.result = std::move(result), .fd = std::move(outcome->fd)});
      });
}
}  // namespace plumberd
