#include "plumberd/warm.hh"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "plumberd/request.hh"
#include "plumberd/router.hh"

namespace plumberd {
namespace {
// Firewalls and servers drop idle connections after minutes; a spare is renewed well before.
constexpr std::uint64_t oldest_ms = 60'000;
constexpr std::uint64_t pause_after_failure_ms = 1'000;
constexpr ipc::Milliseconds sweep_every{5'000};

/// Nothing has arrived and the peer has not closed: RFC 9293's half-close shows as POLLRDHUP, data or EOF as
/// a readable byte.
bool is_alive(int fd) {
  pollfd state{.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
  return ::poll(&state, 1, 0) == 0;
}

std::string peer_of(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return {};
  const auto address = ipc::from_sockaddr(reinterpret_cast<const sockaddr*>(&peer));
  return address ? ipc::to_string(address->first) : std::string{};
}
}  // namespace

void WarmPools::refill() {
  generation_ = router_.config->generation;
  pools_.clear();
  for (const auto& [name, route] : router_.config->routes) {
    if (route.warm == 0 || route.targets.empty()) continue;
    const auto uri = ipc::parse_uri(route.targets.front());
    // A pool is of one identity and one address known beforehand; names are resolved and judged per dial.
    if (!uri || uri->scheme != "tcp" || (!uri->address && !uri->is_localhost())) continue;
    pools_[uri->raw] = Pool{.uri = uri->raw, .route = &route, .wanted = route.warm};
  }
  for (auto& [uri, pool] : pools_) top_up(pool);
  if (pools_.empty()) return sweep_.stop();
  sweep_ = ipc::Timer{router_.loop, sweep_every,
                      [this] {
                        for (auto& [uri, pool] : pools_) {
                          const auto now = router_.loop.now();
                          std::erase_if(pool.spares, [&](const Spare& spare) {
                            return now - spare.since > oldest_ms || !is_alive(spare.fd.borrow());
                          });
                          top_up(pool);
                        }
                      },
                      sweep_every};
}

void WarmPools::top_up(Pool& pool) {
  if (router_.loop.now() < pool.not_before) return;
  while (pool.spares.size() + pool.dialling < pool.wanted) dial_one(pool);
}

void WarmPools::dial_one(Pool& pool) {
  const auto uri = ipc::parse_uri(pool.uri);
  auto* helper = uri ? router_.helpers.for_scheme(uri->scheme) : nullptr;
  if (helper == nullptr) {
    pool.not_before = router_.loop.now() + pause_after_failure_ms;
    pool.dialling = 0;
    pool.wanted = 0;
    return;
  }
  ++pool.dialling;
  DialOrder order{.uri = pool.uri, .deadline = router_.config->limits.request_timeout};
  order.addresses = uri->address ? std::vector{ipc::to_string(*uri->address)}
                                 : std::vector<std::string>{"127.0.0.1", "::1"};
  order.settings = helper_settings(*router_.config, pool.route->source, pool.route->profile);
  helper->dial(std::move(order),
               [this, generation = generation_, key = pool.uri](ipc::Result<Dialled> outcome) {
                 filled(generation, key, std::move(outcome));
               });
}

void WarmPools::filled(std::uint64_t generation, const std::string& uri, ipc::Result<Dialled> outcome) {
  const auto found = pools_.find(uri);
  if (generation != generation_ || found == pools_.end()) return;
  auto& pool = found->second;
  --pool.dialling;
  if (!outcome) {
    pool.not_before = router_.loop.now() + pause_after_failure_ms;
    return;
  }
  auto address = peer_of(outcome->fd.borrow());
  pool.spares.push_back({std::move(outcome->fd), std::move(address), router_.loop.now()});
}

ipc::Fd WarmPools::take(const Config& config, const Target& target, const DialOrder& order) {
  if (pools_.empty() || config.generation != generation_ || target.route == nullptr ||
      target.route->warm == 0)
    return {};
  const auto found = pools_.find(target.uri.raw);
  if (found == pools_.end() || found->second.route != target.route) return {};
  auto& pool = found->second;
  ipc::Fd taken;
  while (!pool.spares.empty() && !taken) {
    auto spare = std::move(pool.spares.front());
    pool.spares.pop_front();
    const bool allowed = std::ranges::find(order.addresses, spare.address) != order.addresses.end();
    if (allowed && is_alive(spare.fd.borrow())) taken = std::move(spare.fd);
  }
  router_.loop.post([this, uri = target.uri.raw] {
    if (const auto again = pools_.find(uri); again != pools_.end()) top_up(again->second);
  });
  return taken;
}

std::size_t WarmPools::held() const {
  std::size_t count = 0;
  for (const auto& [uri, pool] : pools_) count += pool.spares.size();
  return count;
}
}  // namespace plumberd
