// Counters of the router since its start: what `plumb status` and `plumb metrics` show.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "plumberd/decision.hh"
#include "plumberd/helper.hh"

namespace plumberd {

class Stats {
 public:
  /// Buckets of set-up time, in seconds (Prometheus histogram).
  static constexpr std::array<double, 10> bounds{0.0001, 0.00025, 0.0005, 0.001, 0.0025,
                                                 0.01,   0.05,    0.25,   1,     10};
  struct Histogram {
    std::array<std::uint64_t, bounds.size() + 1> counts{};
    double sum = 0;
    std::uint64_t total = 0;
    void add(double seconds);
  };
  struct Hit {
    std::uint64_t count = 0;
    std::chrono::system_clock::time_point last{};
  };

  void count(const Decision& decision);
  /// The helper `name` relayed so much more.
  void count(const std::string& name, Relayed more);
  std::uint64_t decisions(Direction direction, Decision::Verdict verdict) const;
  const std::map<std::string, std::uint64_t, std::less<>>& paths() const { return paths_; }
  const std::map<std::string, std::uint64_t, std::less<>>& errors() const { return errors_; }
  /// By name of the helper.
  const std::map<std::string, Relayed>& relayed() const { return relayed_; }
  const std::array<Histogram, 3>& phases() const { return phases_; }
  /// Decisions of all kinds.
  std::uint64_t requests() const { return requests_; }
  struct RuleHits {
    std::string_view text, at;
    std::uint64_t count;
  };
  /// The rules that were hit most, at most so many.
  std::vector<RuleHits> most_hit(std::size_t most) const;
  /// By "TEXT\nAT" of the rule: survives a reload that keeps the rule.
  Hit hits(std::string_view text, std::string_view at) const;

 private:
  std::uint64_t requests_ = 0;
  std::array<std::array<std::uint64_t, 3>, direction_count> decisions_{};
  std::map<std::string, std::uint64_t, std::less<>> paths_;
  std::map<std::string, std::uint64_t, std::less<>> errors_;
  std::map<std::string, Relayed> relayed_;
  std::array<Histogram, 3> phases_{};  ///< route, judge, dial
  std::unordered_map<std::string, Hit> hits_;
};

}  // namespace plumberd
