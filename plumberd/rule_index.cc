#include "plumberd/rule_index.hh"

#include <bit>

#include "plumberd/index_hash.hh"

namespace plumberd {

/// Keys whose halves collide may share a run of places, so all of the run is looked at.
void RuleIndex::visit_place(std::uint64_t hash, const Probe& probe, CandidateLists& found) const {
  const auto check = check_of(hash);
  std::size_t place = place_in(hash, entries_.size());
  while (entries_[place].bucket.count != 0) {
    if (entries_[place].check == check) visit(entries_[place].bucket, probe, found);
    if (++place == entries_.size()) place = 0;
  }
}

void RuleIndex::visit(const Bucket& bucket, const Probe& probe, CandidateLists& found) const {
  if (bucket.count == 0) return;
  if (bucket.count == 1) return found.add({&bucket.where, 1});
  if ((bucket.count & Bucket::node_mark) != 0) return visit_node(bucket.where, probe, found);
  found.add({lists_.data() + bucket.where, bucket.count});
}

void RuleIndex::visit_open(const Node& node, const Probe& probe, CandidateLists& found) const {
  for (auto left = node.dimensions & probe.open; left != 0; left &= left - 1) {
    const auto below = node.dimensions & ((left & -left) - 1);
    visit(opens_[node.opens + static_cast<std::uint32_t>(std::popcount(below))], probe, found);
  }
}

void RuleIndex::visit_networks(const Node& node, const Probe& probe, CandidateLists& found) const {
  const auto& ranges = ranges_[node.ranges];
  const auto& address = probe.network->address;
  auto number = address.v6 ? ranges.v6.find(number128(address)) : ranges.v4.find(number32(address));
  for (; number != no_network; number = networks_[number].parent)
    if (networks_[number].bits <= probe.network->bits) visit(networks_[number].bucket, probe, found);
}

/// In a large table each place is a cache miss; all are fetched at once while the networks are searched.
void RuleIndex::visit_node(std::uint32_t number, const Probe& probe, CandidateLists& found) const {
  const auto& node = nodes_[number];
  Inline<std::uint64_t, 32> hashes;
  for (const auto& key : probe.keys.all()) {
    if ((node.dimensions & mask_of(key.dimension)) == 0) continue;
    const auto hash = place_hash(number, key);
    __builtin_prefetch(&entries_[place_in(hash, entries_.size())]);
    hashes.push_back(hash);
  }
  visit(node.rest, probe, found);
  if ((node.dimensions & probe.open) != 0) visit_open(node, probe, found);
  if (probe.network && (node.dimensions & mask_of(Dimension::network)) != 0)
    visit_networks(node, probe, found);
  for (const auto hash : hashes.all()) visit_place(hash, probe, found);
}

void RuleIndex::find(Direction direction, const Probe& probe, CandidateLists& found) const {
  visit_node(roots_[static_cast<std::size_t>(direction)], probe, found);
}

std::size_t RuleIndex::bytes() const {
  std::size_t sum = nodes_.capacity() * sizeof(Node) + entries_.capacity() * sizeof(Entry) +
                    lists_.capacity() * sizeof(std::uint32_t) + opens_.capacity() * sizeof(Bucket) +
                    networks_.capacity() * sizeof(Network) + ranges_.capacity() * sizeof(NodeRanges);
  for (const auto& ranges : ranges_) sum += ranges.v4.bytes() + ranges.v6.bytes();
  return sum;
}

std::uint32_t CandidateLists::next() {
  auto heads = heads_.all();
  if (!started_) {
    live_ = heads.size();
    started_ = true;
    std::make_heap(heads.begin(), heads.end(), later);
  }
  if (live_ == 0) return end;
  const auto last = heads.begin() + static_cast<std::ptrdiff_t>(live_);
  std::pop_heap(heads.begin(), last, later);
  auto& head = *(last - 1);
  const auto number = *head.at++;
  if (head.at == head.end) {
    --live_;
  } else {
    std::push_heap(heads.begin(), last, later);
  }
  return number;
}
}  // namespace plumberd
