#include "plumberd/helpers.hh"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace plumberd {
namespace {
constexpr ipc::Milliseconds sweep_every{50};
constexpr std::chrono::hours fresh_secrets_every{12};

/// The most that a profile asks for.
unsigned workers_of_profiles(const Config& config) {
  std::int64_t workers = 1;
  for (const auto& [name, profile] : config.profiles)
    if (const auto parsed = ipc::JsonDocument::parse(profile))
      workers = std::max(workers, parsed->root()["workers"].integer_or(1));
  return static_cast<unsigned>(workers);
}

std::vector<HelperSpec> specs_of(const Config& config) {
  auto specs = config.helpers;
  const auto add = [&](const char* name, const char* scheme) {
    const auto same = [&](const HelperSpec& spec) { return spec.name == name; };
    const auto found = std::ranges::find_if(specs, same);
    if (found == specs.end()) {
      specs.push_back({.name = name, .schemes = {scheme}});
    } else if (found->schemes.empty()) {
      found->schemes = {scheme};
    }
  };
  add("tcpd", "tcp");
  add("tlsd", "tls");
  add("udpd", "udp");
  for (auto& spec : specs)
    if (spec.name == "tlsd") spec.workers = std::max(spec.workers, workers_of_profiles(config));
  return specs;
}

/// Known to the workers of one helper alone.
std::string new_secret() {
  std::array<std::uint64_t, 4> random{};
  [[maybe_unused]] const auto size = ::getrandom(random.data(), sizeof random, 0);
  std::string text;
  for (const auto part : random) text += fmt::format("{:016x}", part);
  return text;
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

HelperSet::Pool* HelperSet::pool_for(std::string_view scheme) const {
  for (const auto& pool : pools_)
    if (std::ranges::find(pool->spec.schemes, scheme) != pool->spec.schemes.end())
      return pool->workers.empty() ? nullptr : pool.get();
  return nullptr;
}

Helper* HelperSet::for_scheme(std::string_view scheme) const {
  auto* pool = pool_for(scheme);
  return pool == nullptr ? nullptr : pool->workers[pool->next++ % pool->workers.size()].get();
}

std::vector<Helper*> HelperSet::all_for_scheme(std::string_view scheme) const {
  std::vector<Helper*> result;
  if (const auto* pool = pool_for(scheme))
    for (const auto& worker : pool->workers) result.push_back(worker.get());
  return result;
}

const std::string* HelperSet::name_for(std::string_view scheme) const {
  const auto* pool = pool_for(scheme);
  return pool == nullptr ? nullptr : &pool->spec.name;
}

std::vector<const Helper*> HelperSet::all() const {
  std::vector<const Helper*> result;
  for (const auto& pool : pools_)
    for (const auto& worker : pool->workers) result.push_back(worker.get());
  return result;
}

/// One that was set aside by an earlier reload and is still busy serves as well as a new one.
std::shared_ptr<Helpers::Pool> Helpers::find(const HelperSpec& spec) const {
  for (const auto* pools : {&current_->pools_, &retired_})
    for (const auto& pool : *pools)
      if (same(pool->spec, spec)) return pool;
  return nullptr;
}

std::shared_ptr<const HelperSet> Helpers::prepare(const Config& config) {
  auto next = std::make_shared<HelperSet>();
  for (auto& spec : specs_of(config)) {
    auto pool = find(spec);
    if (!pool) pool = std::make_shared<Pool>(Pool{.spec = spec});
    while (pool->workers.size() < std::max(1U, spec.workers))
      pool->workers.push_back(std::make_unique<Helper>(loop_, log_, spec, hooks_));
    next->pools_.push_back(std::move(pool));
  }
  settings_ = configuration_of(config);
  generation_ = config.generation;
  tell(*next);
  if (!renewal_)
    renewal_ = ipc::Timer{loop_, fresh_secrets_every, [this] { tell(*current_); }, fresh_secrets_every};
  return next;
}

/// Workers of one helper have a secret in common, each time another: what one gives to a peer, another may
/// take.
void Helpers::tell(const HelperSet& set) {
  for (const auto& pool : set.pools_) {
    auto settings = settings_;
    if (pool->workers.size() > 1) settings.insert(1, "\"shared_secret\":\"" + new_secret() + "\",");
    for (auto& worker : pool->workers) worker->configure(settings, generation_);
  }
}

void Helpers::adopt(std::shared_ptr<const HelperSet> next) {
  retire(*std::exchange(current_, std::move(next)));
}

void Helpers::drop(const std::shared_ptr<const HelperSet>& unwanted, const Config& config) {
  settings_ = configuration_of(config);
  generation_ = config.generation;
  tell(*current_);
  retire(*unwanted);
}

void Helpers::retire(const HelperSet& set) {
  for (const auto& pool : set.pools_)
    if (std::ranges::find(retired_, pool) == retired_.end()) retired_.push_back(pool);
  if (!sweep_) sweep_ = ipc::Timer{loop_, ipc::Milliseconds{0}, [this] { release_unused(); }, sweep_every};
}

/// In a turn of its own: whoever held one of them last may have been called by it.
void Helpers::release_unused() {
  const auto is_current = [this](const auto& pool) {
    return std::ranges::find(current_->pools_, pool) != current_->pools_.end();
  };
  std::erase_if(retired_, is_current);
  const auto busy = [](const auto& pool) { return pool.use_count() > 1; };
  const auto unused = std::ranges::partition(retired_, busy);
  const std::vector gone(std::make_move_iterator(unused.begin()), std::make_move_iterator(unused.end()));
  retired_.erase(unused.begin(), unused.end());
  if (retired_.empty()) sweep_.stop();
}

void Helpers::release_all() {
  sweep_.stop();
  renewal_.stop();
  auto pools = std::exchange(retired_, {});
  std::ranges::copy(current_->pools_, std::back_inserter(pools));
  std::vector<std::unique_ptr<Helper>> gone;
  for (const auto& pool : pools)
    for (auto& worker : std::exchange(pool->workers, {})) gone.push_back(std::move(worker));
  gone.clear();
  Helper::forget_processes(loop_);
}

std::string helper_settings(const Config& config, std::string_view source, std::string_view profile,
                            std::string_view own) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object()
      .add("hop_timeout_ms", std::int64_t{config.limits.hop_timeout.count()})
      .add_if("source", source);
  if (!own.empty()) json.raw(own);
  const auto found = config.profiles.find(profile);
  if (found != config.profiles.end() && found->second.size() > 2)
    json.raw(std::string_view(found->second).substr(1, found->second.size() - 2));
  json.end();
  return text;
}
}  // namespace plumberd
