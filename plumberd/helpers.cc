#include "plumberd/helpers.hh"

#include <algorithm>

namespace plumberd {
namespace {
std::vector<HelperSpec> specs_of(const Config& config) {
  auto specs = config.helpers;
  const auto add = [&](const char* name, const char* scheme) {
    const auto same = [&](const HelperSpec& spec) { return spec.name == name; };
    if (std::ranges::none_of(specs, same)) specs.push_back({.name = name, .schemes = {scheme}});
  };
  add("tcpd", "tcp");
  add("tlsd", "tls");
  add("udpd", "udp");
  return specs;
}

bool same(const HelperSpec& a, const HelperSpec& b) {
  return a.name == b.name && a.exec == b.exec && a.schemes == b.schemes && a.user == b.user &&
         a.workers == b.workers && a.environment == b.environment;
}

std::string configuration_of(const Config& config) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object()
      .add("hop_timeout_ms", std::int64_t{config.limits.hop_timeout.count()})
      .key("profiles")
      .object();
  for (const auto& [name, profile] : config.profiles) json.key(name).raw(profile);
  json.end().end();
  return text;
}
}  // namespace

std::unique_ptr<Helpers::Pool> Helpers::take(Pools& pools, const HelperSpec& spec) {
  const auto found =
      std::ranges::find_if(pools, [&](const auto& pool) { return pool && same(pool->spec, spec); });
  return found != pools.end() ? std::move(*found) : nullptr;
}

void Helpers::apply(const Config& config) {
  Pools next;
  for (auto& spec : specs_of(config)) {
    auto pool = take(pools_, spec);
    if (!pool) pool = take(unused_, spec);
    if (!pool) pool = std::make_unique<Pool>(Pool{.spec = spec});
    while (pool->workers.size() < std::max(1U, spec.workers))
      pool->workers.push_back(std::make_unique<Helper>(loop_, log_, spec, hooks_));
    for (auto& worker : pool->workers) worker->configure(configuration_of(config), config.generation);
    next.push_back(std::move(pool));
  }
  for (auto& pool : std::exchange(pools_, std::move(next)))
    if (pool) unused_.push_back(std::move(pool));
}

/// Whoever still waits for one of them is told, and may look for another: ours are in order by then.
void Helpers::release_unused() {
  if (unused_.empty()) return;
  loop_.post([this] { const auto gone = std::exchange(unused_, {}); });
}

void Helpers::release_all() {
  const auto unused = std::exchange(unused_, {});
  const auto gone = std::exchange(pools_, {});
  Helper::forget_processes(loop_);
}

Helpers::Pool* Helpers::pool_for(std::string_view scheme) {
  for (auto& pool : pools_)
    if (std::ranges::find(pool->spec.schemes, scheme) != pool->spec.schemes.end()) return pool.get();
  return nullptr;
}

Helper* Helpers::for_scheme(std::string_view scheme) {
  auto* pool = pool_for(scheme);
  return pool == nullptr ? nullptr : pool->workers[pool->next++ % pool->workers.size()].get();
}

Helper* Helpers::first_for_scheme(std::string_view scheme) {
  auto* pool = pool_for(scheme);
  return pool == nullptr ? nullptr : pool->workers.front().get();
}

const std::string* Helpers::name_for(std::string_view scheme) const {
  const auto* pool = const_cast<Helpers*>(this)->pool_for(scheme);
  return pool == nullptr ? nullptr : &pool->spec.name;
}

std::vector<const Helper*> Helpers::all() const {
  std::vector<const Helper*> result;
  for (const auto& pool : pools_)
    for (const auto& worker : pool->workers) result.push_back(worker.get());
  return result;
}

std::string helper_settings(const Config& config, std::string_view source, std::string_view profile) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object()
      .add("hop_timeout_ms", std::int64_t{config.limits.hop_timeout.count()})
      .add_if("source", source);
  const auto found = config.profiles.find(profile);
  if (found != config.profiles.end() && found->second.size() > 2)
    json.raw(std::string_view(found->second).substr(1, found->second.size() - 2));
  json.end();
  return text;
}
}  // namespace plumberd
