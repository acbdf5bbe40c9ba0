// Finds, among any number of rules, the few that could match a question, in their order.
//
// A tree of nodes over one hash table. A node holds rules that share all keys on the way to it; each of them
// is filed there under one of its other keys, the rarest; what has no key left is the node's remainder. Keys
// shared by many rules lead to a node of their own, others to a list. Every rule stands in one list only.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "plumberd/ranges.hh"
#include "plumberd/rule_keys.hh"

namespace plumberd {

/// What a key leads to: numbers of rules in ascending order, or another node.
struct Bucket {
  static constexpr std::uint32_t node_mark = 0x80000000;
  std::uint32_t where = 0;  // the only rule; else where the list begins; with node_mark in count: the node
  std::uint32_t count = 0;
};

class CandidateLists;

struct RuleIndex {
  RuleIndex() = default;
  explicit RuleIndex(const RuleTable& table);

  /// Lists of all rules that `probe` could match, in `direction`.
  void find(Direction direction, const Probe& probe, CandidateLists& found) const;
  /// Bytes held.
  std::size_t bytes() const;

 private:
  friend class IndexBuilder;
  struct Entry {
    std::uint32_t check = 0;
    Bucket bucket{};
  };
  struct Network {
    std::uint32_t parent = no_network;
    Bucket bucket{};
    std::uint8_t bits = 0;
  };
  struct Node {
    std::uint32_t dimensions = 0;  // mask: where keys of this node lie
    std::uint32_t ranges = 0;      // with Dimension::network
    std::uint32_t opens = 0;       // first of the lists for open dimensions, one for each in `dimensions`
    Bucket rest{};
  };
  struct NodeRanges {
    Ranges<std::uint32_t> v4{};
    Ranges<Number128> v6{};
  };

  void visit(const Bucket& bucket, const Probe& probe, CandidateLists& found) const;
  void visit_node(std::uint32_t number, const Probe& probe, CandidateLists& found) const;
  void visit_open(const Node& node, const Probe& probe, CandidateLists& found) const;
  void visit_networks(const Node& node, const Probe& probe, CandidateLists& found) const;
  void visit_place(std::uint64_t hash, const Probe& probe, CandidateLists& found) const;

  std::array<std::uint32_t, direction_count> roots_{};
  std::vector<Node> nodes_{};
  std::vector<Entry> entries_{};  // open addressing; a count of 0 is a free place
  std::vector<std::uint32_t> lists_{};
  std::vector<Bucket> opens_{};
  std::vector<Network> networks_{};
  std::vector<NodeRanges> ranges_{};
};

/// Ascending lists merged: `next` gives the numbers of rules in their order.
class CandidateLists {
 public:
  static constexpr std::uint32_t end = 0xffffffff;
  void add(std::span<const std::uint32_t> list) {
    heads_.push_back({list.data(), list.data() + list.size()});
  }
  /// The smallest number not given yet, or `end`. A number that stands in two lists comes twice.
  std::uint32_t next();
  /// Calls `visit` with the first number of each list.
  void each_first(auto visit) const {
    for (const auto& head : heads_.all()) visit(*head.at);
  }

 private:
  struct Head {
    const std::uint32_t* at;
    const std::uint32_t* end;
  };
  static bool later(const Head& a, const Head& b) { return *a.at > *b.at; }
  Inline<Head, 32> heads_{};
  std::size_t live_ = 0;
  bool started_ = false;
};

}  // namespace plumberd
