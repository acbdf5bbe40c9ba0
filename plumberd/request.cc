#include "plumberd/request.hh"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "ipc/name.hh"
#include "ipc/secret.hh"

namespace plumberd {
namespace {
double ms_since(std::uint64_t start) { return static_cast<double>(uv_hrtime() - start) / 1e6; }

ipc::Milliseconds timeout_of(const Config& config, const Routed& routed) {
  for (const auto& target : routed.targets)
    if (target.route != nullptr && target.route->timeout) return *target.route->timeout;
  return config.limits.request_timeout;
}

DialOrder order_for(const Config& config, const Ask& ask, const Target& target, const Judged& judged) {
  DialOrder order{.uri = target.uri.raw,
                  .hops = ask.hops,
                  .framing = ask.framing,
                  .claims = ask.claims,
                  .ktls = ask.ktls,
                  .onward = ask.onward};
  if (!target.uri.service.empty()) order.service = target.service;
  order.addresses = judged.addresses;
  order.judge = judged.resolve;
  static const Route plain;
  const auto& route = target.route == nullptr ? plain : *target.route;
  order.settings = helper_settings(config, route.source, route.profile, route.settings);
  return order;
}
}  // namespace

std::shared_ptr<Request> Request::start(Router& router, Ask ask, Asker asker, Done done) {
  auto request = std::make_shared<Request>(router, std::move(ask), std::move(asker), std::move(done));
  request->self_ = request;
  request->run();
  return request;
}

Request::Request(Router& router, Ask ask, Asker asker, Done done)
    : router_{router},
      config_{router.config},
      helpers_{router.helpers.current()},
      ask_{std::move(ask)},
      asker_{std::move(asker)},
      done_{std::move(done)} {}

Request::~Request() {
  ipc::wipe_secrets(ask_.uri);
  ipc::wipe_secrets(ask_.networkd);
  for (auto& target : routed_.targets) {
    if (!target.uri.secret.empty()) ::explicit_bzero(target.uri.secret.data(), target.uri.secret.size());
    ipc::wipe_secrets(target.uri.raw);
  }
}

void Request::run() {
  router_.events.stamp(decision_);
  decision_.generation = config_->generation;
  decision_.asked = ipc::printable(ask_.service.empty() ? ipc::mask_secrets(ask_.uri) : ask_.service);
  decision_.opened = ipc::printable(ask_.service);
  decision_.client = asker_.who();
  const auto began = uv_hrtime();
  auto routed = route_of(*config_, ask_, [this](std::string_view name) { return router_.is_local(name); });
  decision_.ms_route = ms_since(began);
  if (!routed) return fail(std::move(routed).error());
  routed_ = std::move(*routed);
  decision_.steps = routed_.steps;
  ends_at_ = router_.loop.now() + static_cast<std::uint64_t>(timeout_of(*config_, routed_).count());
  try_next();
}

/// Each target gets its share of what is left, so that a silent first one does not use it all up.
ipc::Milliseconds Request::share_of_time() const {
  const auto now = router_.loop.now();
  const auto left = ends_at_ > now ? ends_at_ - now : 0;
  return ipc::Milliseconds{left / std::max<std::size_t>(1, routed_.targets.size() - next_target_ + 1)};
}

void Request::try_next() {
  if (next_target_ >= routed_.targets.size()) return fail(std::move(last_error_));
  open(routed_.targets[next_target_++]);
}

void Request::open(const Target& target) {
  const auto began = uv_hrtime();
  auto judged = judge_target(*config_, target, asker_, decision_);
  decision_.ms_judge += ms_since(began);
  dial_started_ = uv_hrtime();
  if (!judged.allowed) return deny(target);
  if (target.kind == Target::Kind::uri) return dial(target, std::move(judged));
  if (target.kind == Target::Kind::path) return open_path(target);
  if (router_.registry.has(target.service)) return open_offered(target);
  open_unguarded(target);
}

/// A guarded service gets one end of a pair over its channel, the client the other.
void Request::open_offered(const Target& target) {
  auto pair = ipc::socket_pair(SOCK_STREAM);
  if (!pair) return miss(target, std::move(pair).error());
  ipc::Labels labels{{"service", target.service}, {"scheme", "unix"}};
  if (const auto uid = asker_.uid()) labels["client.uid"] = std::to_string(*uid);
  auto service_labels = labels;
  for (const auto& [key, value] : ask_.claims) service_labels["claimed." + key] = value;
  if (auto ok = ipc::set_blocking(pair->second.borrow(), true); !ok)
    return miss(target, std::move(ok).error());
  if (auto ok = router_.registry.deliver(target.service, pair->second.borrow(), service_labels); !ok)
    return miss(target, std::move(ok).error());
  succeed({.fd = std::move(pair->first), .path = "direct", .labels = std::move(labels)});
}

void Request::open_path(const Target& target) {
  const auto type = socket_type(target.uri.type);
  if (!is_strangers_path(target, asker_))
    return open_socket(target, [path = target.uri.path, type] { return connect_unix(path, type); });
  auto real = real_path(target.uri.path);
  if (!real) return miss(target, std::move(real).error());
  if (!judge_end(*config_, target, *real, asker_, decision_)) return deny(target);
  open_socket(target, [path = real->path, type] { return connect_unix_itself(path, type, Links::nowhere); });
}

void Request::open_unguarded(const Target& target) {
  open_socket(target, [this, &target] { return router_.rundir.connect(target.service, SOCK_STREAM); });
}

void Request::open_socket(const Target& target, PatientConnect::Try attempt) {
  opening_.emplace(router_.loop, share_of_time(), std::move(attempt),
                   [this, &target](ipc::Result<ipc::Fd> socket) {
                     const auto keep = shared_from_this();
                     connected(target, std::move(socket));
                   });
  opening_->start();
}

void Request::connected(const Target& target, ipc::Result<ipc::Fd> socket) {
  if (!socket) return miss(target, std::move(socket).error());
  const bool unguarded = target.kind == Target::Kind::local;
  if (unguarded && !judge_owner(target, socket->borrow())) return deny(target);
  ipc::Labels labels{{"service", target.service}, {"scheme", "unix"}};
  succeed({.fd = std::move(*socket), .path = "direct", .labels = std::move(labels)});
}

/// Whoever listens on an unguarded name must be allowed to offer it (`serve`), judged before a byte is sent.
bool Request::judge_owner(const Target& target, int socket) {
  auto owner = Identity::of_peer(socket);
  return owner && owner_may_serve(*config_, target.service,
                                  Asker{std::make_shared<Identity>(std::move(*owner))}, decision_);
}

void Request::dial(const Target& target, Judged judged) {
  if (const auto* name = helpers_->name_for(target.uri.scheme)) decision_.helper = *name;
  auto* helper = helpers_->for_scheme(target.uri.scheme);
  if (helper == nullptr)
    return miss(target, {ipc::Word::no_helper, "no helper speaks " + ipc::printable(target.uri.scheme, 32) +
                                                   "; [helpers.NAME] with schemes = [\"...\"] adds one"});
  allowed_ = judged.addresses;
  dial_through(*helper, target, std::move(judged));
}

void Request::dial_through(Helper& helper, const Target& target, Judged judged) {
  helper_ = &helper;
  auto spare = take_warm(target, judged);
  if (spare && target.uri.service.empty()) return dialled(target, std::move(*spare));
  auto order = order_for(*config_, ask_, target, judged);
  order.deadline = share_of_time();
  if (spare) {
    order.connected = std::move(spare->fd);
    order.judge = false;
    warm_ = std::move(*spare);
  }
  if (order.judge && asker_.uid() && !asker_.is_owner())
    return await_resolver(helper, target, std::move(order));
  send_dial(helper, target, std::move(order));
}

/// The helper resolves the name: in a thread of which the client's user has so many, and waits for the next.
void Request::await_resolver(Helper& helper, const Target& target, DialOrder order) {
  resolving_ = router_.resolvers.take(*asker_.uid());
  if (resolving_) return send_dial(helper, target, std::move(order));
  const auto held = std::make_shared<DialOrder>(std::move(order));
  turn_ = router_.resolvers.wait(*asker_.uid(), [this, &helper, &target, held](ResolverShare::Place place) {
    const auto keep = shared_from_this();
    turn_limit_.stop();
    resolving_ = std::move(place);
    held->deadline = share_of_time();
    send_dial(helper, target, std::move(*held));
  });
  turn_limit_ = ipc::Timer{
      router_.loop, share_of_time(), [this, &target] {
        const auto keep = shared_from_this();
        turn_.reset();
        miss(target, {ipc::Word::timeout, "other names of this user were being resolved all the time"});
      }};
}

void Request::send_dial(Helper& helper, const Target& target, DialOrder order) {
  if (order.judge)
    order.on_judge = [weak = weak_from_this(), &target](const std::vector<std::string>& addresses) {
      const auto self = weak.lock();
      return self ? self->judge_found(target, addresses) : std::vector<std::string>{};
    };
  dial_id_ = helper.dial(std::move(order), [weak = weak_from_this(), &target](ipc::Result<Dialled> outcome) {
    if (const auto self = weak.lock()) self->dialled(target, std::move(outcome));
  });
}

std::vector<std::string> Request::judge_found(const Target& target,
                                              const std::vector<std::string>& addresses) {
  resolving_ = {};
  allowed_ = judge_addresses(*config_, target, addresses, asker_, decision_);
  return allowed_;
}

/// A spare connection is judged for this client as a fresh one would be.
std::optional<Dialled> Request::take_warm(const Target& target, const Judged& judged) {
  // Behind a spare of tls stands a relay already, and not one of whole messages, or that tells another of a
  // cut.
  if (without_spares_ || ((ask_.framing != "bytes" || ask_.onward) && target.uri.scheme != "tcp")) return {};
  return router_.warm.take(*config_, target, [&](const std::string& address) {
    if (judged.resolve) allowed_ = judge_addresses(*config_, target, {address}, asker_, decision_);
    return std::ranges::find(allowed_, address) != allowed_.end();
  });
}

void Request::dialled(const Target& target, ipc::Result<Dialled> outcome) {
  dial_id_ = 0;
  auto resolving = std::move(resolving_);
  if (!outcome && outcome.error().word == ipc::Word::timeout) router_.resolvers.abandon(std::move(resolving));
  // The spare may have been dead without a sign of it: that is no fault of the target's.
  if (!outcome && warm_ && !outcome.error().far && !std::exchange(without_spares_, true)) {
    warm_.reset();
    return open(target);
  }
  if (outcome && warm_) {  // the hop was made on a spare: what is known of the connection is the spare's
    outcome->path = warm_->path;
    outcome->labels.merge(warm_->labels);
  }
  warm_.reset();
  if (!outcome && decision_.verdict == Decision::Verdict::deny) return deny(target);
  if (!outcome) return miss(target, std::move(outcome).error());
  if (auto ok = check_peer(target, outcome->socket); !ok) return miss(target, std::move(ok).error());
  auto labels = std::move(outcome->labels);
  labels["service"] = target.service;
  labels["scheme"] = target.uri.scheme;
  succeed({.fd = std::move(outcome->fd),
           .path = std::move(outcome->path),
           .labels = std::move(labels),
           .via = helper_,
           .onward = outcome->onward});
}

/// A socket that leads anywhere but to a judged address is not handed on, whatever the helper says.
ipc::Result<> Request::check_peer(const Target& target, const PeerSocket& socket) const {
  auto ok = plumberd::check_peer(target.uri.scheme, socket, allowed_, target.uri.port_or_default());
  if (!ok) ok.error().text = "the helper " + decision_.helper + " gave a wrong socket: " + ok.error().text;
  return ok;
}

/// This target failed: the next one, or the last word.
void Request::miss(const Target& target, ipc::Error error) {
  const auto where = target.kind == Target::Kind::local ? target.service : ipc::to_string(target.uri);
  const auto speaker = ipc::printable(target.uri.host) + " says: ";
  if (error.far && !error.text.starts_with(speaker)) error.text = speaker + ipc::printable(error.text);
  if (!error.far && error.text.find(where) == error.text.npos) error.text = where + ": " + error.text;
  if (next_target_ < routed_.targets.size())
    decision_.steps.push_back({"failover", where, std::string(ipc::to_string(error.word)), ""});
  last_error_ = std::move(error);
  try_next();
}

void Request::deny(const Target& target) {
  if (next_target_ < routed_.targets.size()) return miss(target, denial(decision_, may_see_rule()));
  fail(denial(decision_, may_see_rule()));
}

bool Request::may_see_rule() const { return config_->denied_detail || asker_.is_owner(); }

void Request::succeed(Connection connection) {
  if (auto ok = ipc::set_blocking(connection.fd.borrow(), true); !ok) return fail(std::move(ok).error());
  decision_.path = connection.path;
  finish(std::move(connection));
}

void Request::fail(ipc::Error error) {
  decision_.failed = true;
  decision_.error = error;
  finish(std::unexpected(std::move(error)));
}

void Request::finish(ipc::Result<Connection> outcome) {
  const auto keep = std::move(self_);
  if (dial_started_ != 0) decision_.ms_dial = ms_since(dial_started_);
  decision_.client = asker_.who();
  router_.stats.count(decision_);
  done_(std::move(outcome), decision_);
  router_.events.publish(std::move(decision_));
}

void Request::cancel() {
  const auto keep = std::move(self_);
  if (!keep) return;  // it is over
  opening_.reset();
  turn_.reset();
  router_.resolvers.abandon(std::move(resolving_));
  if (helper_ != nullptr && dial_id_ != 0) helper_->cancel(dial_id_);
  dial_id_ = 0;
  decision_.client = asker_.who();
  router_.conclude(std::move(decision_),
                   ipc::fail(ipc::Word::timeout, "the client went away before it was answered"));
}
}  // namespace plumberd
