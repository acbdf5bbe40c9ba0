// Building a RuleIndex: done once a load, in time and memory proportional to the rules.
#include <bit>
#include <numeric>
#include <tuple>

#include "plumberd/index_hash.hh"
#include "plumberd/rule_index.hh"

namespace plumberd {
namespace {
constexpr std::uint32_t few = 8;  // keys shared by so many rules are not worth a rarer one
constexpr std::size_t many = 16;  // lists longer than this become nodes

std::uint64_t network_hash(const NetworkKey& network) {
  const auto number = number128(network.address);
  const auto mixed = number.high * 0x9e3779b97f4a7c15 ^ number.low * 0xff51afd7ed558ccd;
  return mixed ^ network.bits ^ (network.address.v6 ? 256U : 0U);
}

ipc::Address masked(ipc::Address address, unsigned bits) {
  for (unsigned i = 0; i < address.bytes.size(); ++i) {
    const unsigned kept = bits <= i * 8 ? 0 : std::min(8U, bits - i * 8);
    address.bytes[i] = static_cast<std::uint8_t>(address.bytes[i] & (0xff00 >> kept));
  }
  return address;
}

/// A rule under the key chosen for it.
struct Filed {
  Key key{};
  NetworkKey network{};
  std::uint32_t rule = 0;

  bool is_network() const { return key.dimension == Dimension::network; }
};

bool same_place(const Filed& a, const Filed& b) {
  if (a.key.dimension != b.key.dimension) return false;
  if (!a.is_network()) return a.key.hash == b.key.hash;
  return a.network.bits == b.network.bits && a.network.address == b.network.address;
}

/// By dimension, then key (networks by family, start, wider first), then number of the rule.
bool before(const Filed& a, const Filed& b) {
  const auto order = [](const Filed& f) {
    return std::tie(f.key.dimension, f.network.address, f.network.bits, f.key.hash, f.rule);
  };
  return order(a) < order(b);
}
}  // namespace

class IndexBuilder {
 public:
  IndexBuilder(const RuleTable& table, RuleIndex& index) : table_{table}, index_{index} {}

  void build() {
    for (std::size_t d = 0; d < direction_count; ++d)
      index_.roots_[d] = node(rules_of(static_cast<Direction>(d)), 0);
    place_entries();
    index_.nodes_.shrink_to_fit();
    index_.lists_.shrink_to_fit();
    index_.opens_.shrink_to_fit();
    index_.networks_.shrink_to_fit();
    index_.ranges_.shrink_to_fit();
  }

 private:
  using Numbers = std::vector<std::uint32_t>;
  struct Placed {
    std::uint64_t hash;
    Bucket bucket;
  };

  Numbers rules_of(Direction direction) {
    Numbers numbers;
    const auto rules = table_.rules();
    for (std::uint32_t i = 0; i < rules.size(); ++i)
      if (rules[i].direction() == direction) numbers.push_back(i);
    return numbers;
  }

  /// Calls visit(key, network) for every key of a rule in dimensions not used yet.
  template <class Visit>
  void each_key(std::uint32_t rule, std::uint32_t used, Visit visit) {
    const auto keys = keys_of(table_, table_.rules()[rule]);
    for (const auto& key : keys.keys.all())
      if ((used & mask_of(key.dimension)) == 0) visit(key, NetworkKey{});
    if (!keys.network || (used & mask_of(Dimension::network)) != 0) return;
    const NetworkKey network{masked(keys.network->address, keys.network->bits), keys.network->bits};
    visit(Key{Dimension::network, network_hash(network)}, network);
  }

  /// How many rules of the node share a key; hashed into few counters, so now and then too many: harmless.
  std::size_t counter(const Key& key) const { return place_hash(0, key) & (counters_ - 1); }
  std::vector<std::uint32_t> count_keys(const Numbers& rules, std::uint32_t used) {
    counters_ = std::bit_ceil(rules.size() * 8 + 1);
    std::vector<std::uint32_t> counts(counters_);
    for (const auto rule : rules)
      each_key(rule, used, [&](const Key& key, const NetworkKey&) { ++counts[counter(key)]; });
    return counts;
  }

  /// Each rule under the best of its keys: the first dimension where few share it, else the rarest. Rules
  /// without a key go to `rest`.
  std::vector<Filed> file(const Numbers& rules, std::uint32_t used, Numbers& rest) {
    const auto counts = count_keys(rules, used);
    std::vector<Filed> filed;
    filed.reserve(rules.size());
    for (const auto rule : rules) {
      Filed best{.rule = rule};
      auto best_rank = std::tuple{no_network, 0U};
      each_key(rule, used, [&](const Key& key, const NetworkKey& network) {
        const auto rank =
            std::tuple{std::max(counts[counter(key)], few), static_cast<unsigned>(key.dimension)};
        if (rank < best_rank) std::tie(best_rank, best.key, best.network) = std::tuple{rank, key, network};
      });
      std::get<0>(best_rank) == no_network ? rest.push_back(rule) : filed.push_back(best);
    }
    std::ranges::sort(filed, before);
    return filed;
  }

  Bucket list(std::span<const std::uint32_t> numbers) {
    if (numbers.empty()) return {};
    if (numbers.size() == 1) return {numbers[0], 1};
    const Bucket bucket{static_cast<std::uint32_t>(index_.lists_.size()),
                        static_cast<std::uint32_t>(numbers.size())};
    index_.lists_.insert(index_.lists_.end(), numbers.begin(), numbers.end());
    return bucket;
  }

  static Numbers numbers_of(std::span<const Filed> filed) {
    Numbers numbers(filed.size());
    std::ranges::transform(filed, numbers.begin(), &Filed::rule);
    return numbers;
  }

  Bucket bucket(std::span<const Filed> group, std::uint32_t used) {
    auto numbers = numbers_of(group);
    if (numbers.size() <= many) return list(numbers);
    return {node(std::move(numbers), used | mask_of(group[0].key.dimension)), Bucket::node_mark};
  }

  /// The list of all rules of a dimension, in their order, for probes that do not know its fact. Only facts
  /// that may be unknown need one.
  void add_open(std::span<const Filed> dimension) {
    constexpr auto may_be_unknown = mask_of(Dimension::network) | mask_of(Dimension::user) |
                                    mask_of(Dimension::group) | mask_of(Dimension::unit) |
                                    mask_of(Dimension::exe) | mask_of(Dimension::user_unit);
    Bucket open{};
    if ((mask_of(dimension[0].key.dimension) & may_be_unknown) != 0) {
      auto numbers = numbers_of(dimension);
      std::ranges::sort(numbers);
      open = list(numbers);
    }
    index_.opens_.push_back(open);
  }

  template <class Visit>
  static void each_run(std::span<const Filed> filed, auto same, Visit visit) {
    while (!filed.empty()) {
      const auto end = std::ranges::find_if(filed, [&](const auto& f) { return !same(filed[0], f); });
      const auto size = static_cast<std::size_t>(end - filed.begin());
      visit(filed.first(size));
      filed = filed.subspan(size);
    }
  }

  /// A node for `rules`, which share the keys in dimensions `used`; returns its number.
  std::uint32_t node(Numbers rules, std::uint32_t used) {
    const auto number = static_cast<std::uint32_t>(index_.nodes_.size());
    index_.nodes_.emplace_back();
    Numbers rest;
    const auto filed = file(rules, used, rest);
    rules = {};
    RuleIndex::Node made{.opens = static_cast<std::uint32_t>(index_.opens_.size()), .rest = list(rest)};
    const auto same_dimension = [](const Filed& a, const Filed& b) {
      return a.key.dimension == b.key.dimension;
    };
    each_run(filed, same_dimension, [&](std::span<const Filed> dimension) {
      made.dimensions |= mask_of(dimension[0].key.dimension);
      add_open(dimension);
    });
    each_run(filed, same_dimension, [&](std::span<const Filed> dimension) {
      if (dimension[0].is_network()) {
        made.ranges = networks(dimension, used);
      } else {
        each_run(dimension, same_place, [&](std::span<const Filed> group) {
          placed_.push_back({place_hash(number, group[0].key), bucket(group, used)});
        });
      }
    });
    index_.nodes_[number] = made;
    return number;
  }

  std::uint32_t networks(std::span<const Filed> filed, std::uint32_t used) {
    RuleIndex::NodeRanges ranges;
    each_run(filed, same_place, [&](std::span<const Filed> group) {
      const auto id = static_cast<std::uint32_t>(index_.networks_.size());
      index_.networks_.emplace_back();
      const RuleIndex::Network made{add_range(ranges, group[0].network, id), bucket(group, used),
                                    group[0].network.bits};
      index_.networks_[id] = made;
    });
    ranges.v4.finish();
    ranges.v6.finish();
    index_.ranges_.push_back(std::move(ranges));
    return static_cast<std::uint32_t>(index_.ranges_.size() - 1);
  }

  static std::uint32_t add_range(RuleIndex::NodeRanges& ranges, const NetworkKey& network, std::uint32_t id) {
    auto last = network.address;
    for (unsigned i = 0; i < last.bytes.size(); ++i) {
      const unsigned kept = network.bits <= i * 8 ? 0 : std::min(8U, network.bits - i * 8);
      last.bytes[i] = static_cast<std::uint8_t>(last.bytes[i] | (0xff >> kept));
    }
    if (network.address.v6) return ranges.v6.add(number128(network.address), number128(last), id);
    return ranges.v4.add(number32(network.address), number32(last), id);
  }

  void place_entries() {
    index_.entries_.resize(placed_.size() + placed_.size() / 2 + 1);
    for (const auto& [hash, bucket] : placed_) {
      auto place = place_in(hash, index_.entries_.size());
      while (index_.entries_[place].bucket.count != 0)
        if (++place == index_.entries_.size()) place = 0;
      index_.entries_[place] = {check_of(hash), bucket};
    }
  }

  const RuleTable& table_;
  RuleIndex& index_;
  std::vector<Placed> placed_{};
  std::size_t counters_ = 1;
};

RuleIndex::RuleIndex(const RuleTable& table) { IndexBuilder{table, *this}.build(); }
}  // namespace plumberd
