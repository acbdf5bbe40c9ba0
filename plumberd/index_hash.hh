// Where keys of a node lie in the one hash table of a RuleIndex.
#pragma once
#include <cstddef>
#include <cstdint>

#include "plumberd/rule_keys.hh"

namespace plumberd {

/// Murmur3's finaliser over node, dimension and key.
constexpr std::uint64_t place_hash(std::uint32_t node, const Key& key) {
  std::uint64_t hash = key.hash ^ (std::uint64_t{node} << 8 | static_cast<std::uint64_t>(key.dimension)) *
                                      std::uint64_t{0x9e3779b97f4a7c15};
  hash = (hash ^ hash >> 33) * std::uint64_t{0xff51afd7ed558ccd};
  hash = (hash ^ hash >> 33) * std::uint64_t{0xc4ceb9fe1a85ec53};
  return hash ^ hash >> 33;
}
/// The half that is compared; the other half chooses the place.
constexpr std::uint32_t check_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash); }
constexpr std::size_t place_in(std::uint64_t hash, std::size_t places) {
  return static_cast<std::size_t>(((hash >> 32) * places) >> 32);
}

}  // namespace plumberd
