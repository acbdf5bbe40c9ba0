#include "plumberd/warm.hh"

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "plumberd/request.hh"
#include "plumberd/router.hh"
#include "plumberd/uri_pattern.hh"

namespace plumberd {
namespace {
// Firewalls and servers drop idle connections after minutes; a spare is renewed well before.
constexpr std::uint64_t oldest_ms = 60'000;
constexpr std::uint64_t pause_after_failure_ms = 1'000;
constexpr ipc::Milliseconds sweep_every{5'000};
constexpr ipc::Milliseconds breath{3};

/// Nothing has arrived and the peer has not closed: RFC 9293's half-close shows as POLLRDHUP, data or EOF as
/// a readable byte.
bool is_alive(int fd) {
  pollfd state{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
  return ::poll(&state, 1, 0) == 0;
}

/// Where the connection leads: the socket's own peer, or, behind a helper's relay, what the helper says.
std::string address_of(const Dialled& connection) {
  if (connection.socket.peer) return ipc::to_string(connection.socket.peer->first);
  const auto label = connection.labels.find("peer.address");
  return label == connection.labels.end() ? std::string{} : label->second;
}

/// Datagrams have no connection to keep warm, and a scheme of somebody else's may not bear idle ones.
bool can_be_kept(const ipc::Uri& uri) { return uri.scheme == "tcp" || uri.scheme == "tls"; }
}  // namespace

void WarmPools::refill() {
  generation_ = router_.config->generation;
  pools_.clear();
  for (const auto& [name, route] : router_.config->routes) {
    if (route.warm == 0 || route.targets.empty()) continue;
    const auto uri = ipc::parse_uri(filled_in(route.targets.front(), name));
    if (!uri || !can_be_kept(*uri)) continue;
    pools_[&route] = Pool{.uri = uri->raw, .wanted = route.warm};
  }
  top_up();
  if (pools_.empty()) return sweep_.stop();
  sweep_ = ipc::Timer{router_.loop, sweep_every,
                      [this] {
                        for (auto& [route, pool] : pools_) {
                          const auto now = router_.loop.now();
                          std::erase_if(pool.spares, [&](const Spare& spare) {
                            return now - spare.since > oldest_ms || !is_alive(spare.connection.fd.borrow());
                          });
                        }
                        top_up();
                      },
                      sweep_every};
}

void WarmPools::top_up() {
  for (auto& [route, pool] : pools_) top_up(*route, pool);
}

void WarmPools::top_up(const Route& route, Pool& pool) {
  if (router_.loop.now() < pool.not_before) return;
  while (pool.spares.size() + pool.dialling < pool.wanted) dial_one(route, pool);
}

/// No client stands behind a spare: it is judged as the router's own user, and anew for whoever gets it.
DialOrder WarmPools::order_for(const Route& route, const ipc::Uri& uri) const {
  auto config = router_.config;
  DialOrder order{.uri = uri.raw, .deadline = config->limits.request_timeout};
  order.settings = helper_settings(*config, route.source, route.profile, route.settings);
  if (uri.address) order.addresses = {ipc::to_string(*uri.address)};
  order.judge = !uri.address && !uri.is_localhost();
  Facts own;
  own.uid = ::geteuid();
  own.is_owner = true;
  const Target target{
      .kind = Target::Kind::uri, .service = uri.service.empty() ? "*" : uri.service, .uri = uri};
  order.on_judge = [config, target, own](const std::vector<std::string>& addresses) {
    Decision unrecorded;
    Asker asker{own};
    return judge_addresses(*config, target, addresses, asker, unrecorded);
  };
  return order;
}

void WarmPools::dial_one(const Route& route, Pool& pool) {
  const auto uri = ipc::parse_uri(pool.uri);
  auto* helper = uri ? router_.helpers.current()->for_scheme(uri->scheme) : nullptr;
  if (helper == nullptr) {
    pool.wanted = 0;
    return;
  }
  ++pool.dialling;
  helper->dial(order_for(route, *uri),
               [this, generation = generation_, key = &route](ipc::Result<Dialled> outcome) {
                 filled(generation, key, std::move(outcome));
               });
}

void WarmPools::filled(std::uint64_t generation, const Route* route, ipc::Result<Dialled> outcome) {
  const auto found = pools_.find(route);
  if (generation != generation_ || found == pools_.end()) return;
  auto& pool = found->second;
  --pool.dialling;
  if (!outcome) {
    pool.not_before = router_.loop.now() + pause_after_failure_ms;
    return;
  }
  auto address = address_of(*outcome);
  pool.spares.push_back({std::move(*outcome), std::move(address), router_.loop.now()});
}

std::optional<Dialled> WarmPools::take(const Config& config, const Target& target, const Allowed& allowed) {
  if (pools_.empty() || config.generation != generation_) return {};
  const auto found = pools_.find(target.route);
  if (found == pools_.end() || found->second.uri != target.uri.raw) return {};
  auto& pool = found->second;
  std::optional<Dialled> taken;
  while (!pool.spares.empty() && !taken) {
    auto spare = std::move(pool.spares.front());
    pool.spares.pop_front();
    if (is_alive(spare.connection.fd.borrow()) && allowed(spare.address)) taken = std::move(spare.connection);
  }
  top_up_soon(pool);
  return taken;
}

/// What the client does first with its connection comes before a pool that is still half full: dialling its
/// replacement at once would compete with it.
void WarmPools::top_up_soon(const Pool& pool) {
  const auto all = [this] {
    later_.stop();
    top_up();
  };
  if (2 * (pool.spares.size() + pool.dialling) < pool.wanted) return router_.loop.post(all);
  if (!later_) later_ = ipc::Timer{router_.loop, breath, all};
}

std::size_t WarmPools::held() const {
  std::size_t count = 0;
  for (const auto& [uri, pool] : pools_) count += pool.spares.size();
  return count;
}
}  // namespace plumberd
