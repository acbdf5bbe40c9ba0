// What is remembered for a while and in a bounded number.
#pragma once
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>

namespace udpd {

/// Entries live `life_ms` from when they were put; beyond `capacity` the oldest goes first. Times are of any
/// steady clock, always the same.
template <class Key, class Value, class Hash>
class Memory {
 public:
  Memory(std::uint64_t life_ms, std::size_t capacity) : life_ms_{life_ms}, capacity_{capacity} {}
  void put(const Key& key, Value value, std::uint64_t now) {
    forget_old(now);
    if (order_.size() >= capacity_) forget_oldest();
    auto& entry = entries_[key];
    entry = {std::move(value), ++stamp_};
    order_.push_back({key, now + life_ms_, stamp_});
  }
  const Value* find(const Key& key, std::uint64_t now) {
    forget_old(now);
    const auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : &found->second.value;
  }
  void forget(const Key& key) { entries_.erase(key); }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Value value{};
    std::uint64_t stamp = 0;
  };
  struct Place {
    Key key;
    std::uint64_t until;
    std::uint64_t stamp;
  };
  void forget_old(std::uint64_t now) {
    while (!order_.empty() && order_.front().until <= now) forget_oldest();
  }
  void forget_oldest() {
    const auto found = entries_.find(order_.front().key);
    // Put again since: the newer place counts.
    if (found != entries_.end() && found->second.stamp == order_.front().stamp) entries_.erase(found);
    order_.pop_front();
  }

  std::uint64_t life_ms_;
  std::size_t capacity_;
  std::uint64_t stamp_ = 0;
  std::unordered_map<Key, Entry, Hash> entries_;
  std::deque<Place> order_;
};

}  // namespace udpd
