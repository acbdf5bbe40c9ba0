#include "plumberd/stats.hh"

#include <algorithm>
#include <tuple>

namespace plumberd {
namespace {
constexpr std::size_t most_rules = 1U << 20;

std::string key_of(std::string_view text, std::string_view at) {
  std::string key{text};
  key += '\n';
  key += at;
  return key;
}
}  // namespace

void Stats::Histogram::add(double seconds) {
  const auto bucket = std::ranges::lower_bound(bounds, seconds) - bounds.begin();
  ++counts[static_cast<std::size_t>(bucket)];
  sum += seconds;
  ++total;
}

void Stats::count(const Decision& d) {
  ++requests_;
  ++decisions_[static_cast<std::size_t>(d.direction)][static_cast<std::size_t>(d.verdict)];
  if (!d.path.empty()) ++paths_[d.path];
  if (d.failed) ++errors_[std::string(ipc::to_string(d.error.word))];
  phases_[0].add(d.ms_route / 1000);
  phases_[1].add(d.ms_judge / 1000);
  if (d.ms_dial > 0) phases_[2].add(d.ms_dial / 1000);
  const auto hit = [&](const std::string& text, const std::string& at) {
    if (text.empty()) return;
    if (hits_.size() >= most_rules) hits_.clear();  // reloads have left many behind that exist no longer
    auto& entry = hits_[key_of(text, at)];
    ++entry.count;
    entry.last = d.time;
  };
  hit(d.rule, d.rule_at);
  if (d.audited != d.rule || d.audited_at != d.rule_at) hit(d.audited, d.audited_at);
}

/// No helper lives long enough for more than a Prometheus number holds exactly.
void Stats::count(const std::string& name, Relayed more) {
  constexpr std::uint64_t most = 1ULL << 53;
  auto& sum = relayed_[name];
  sum.received = std::min(most, sum.received + more.received);
  sum.sent = std::min(most, sum.sent + more.sent);
}

std::uint64_t Stats::decisions(Direction direction, Decision::Verdict verdict) const {
  return decisions_[static_cast<std::size_t>(direction)][static_cast<std::size_t>(verdict)];
}

std::vector<Stats::RuleHits> Stats::most_hit(std::size_t most) const {
  std::vector<RuleHits> rules;
  rules.reserve(hits_.size());
  for (const auto& [key, hit] : hits_) {
    const std::string_view text{key};
    const auto end = text.find('\n');
    rules.push_back({text.substr(0, end), text.substr(end + 1), hit.count});
  }
  const auto more = [](const RuleHits& a, const RuleHits& b) {
    return std::tuple{b.count, a.text, a.at} < std::tuple{a.count, b.text, b.at};
  };
  const auto kept = static_cast<std::ptrdiff_t>(std::min(most, rules.size()));
  std::ranges::partial_sort(rules, rules.begin() + kept, more);
  rules.resize(static_cast<std::size_t>(kept));
  return rules;
}

Stats::Hit Stats::hits(std::string_view text, std::string_view at) const {
  const auto found = hits_.find(key_of(text, at));
  return found == hits_.end() ? Hit{} : found->second;
}
}  // namespace plumberd
