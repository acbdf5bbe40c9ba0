// Which networks contain an address: nested ranges flattened into sorted boundaries, so that one binary
// search finds the innermost and parent links lead to the rest.
#pragma once
#include <algorithm>
#include <compare>
#include <cstdint>
#include <vector>

#include "ipc/address.hh"

namespace plumberd {

constexpr std::uint32_t no_network = 0xffffffff;

/// 128 bits of IPv6 as a number.
struct Number128 {
  std::uint64_t high = 0, low = 0;
  auto operator<=>(const Number128&) const = default;
};

std::uint32_t number32(const ipc::Address& address);
Number128 number128(const ipc::Address& address);

/// Boundaries over addresses of one family. Networks are numbered by their caller, wider ones before those
/// that they contain where both start at the same address.
template <class Number>
class Ranges {
 public:
  /// `first` and `last` address of network `id`; called in ascending order of `first`, wider ones first.
  /// Returns the id of the next wider network, or no_network.
  std::uint32_t add(Number first, Number last, std::uint32_t id);
  void finish();
  /// The innermost network that contains `address`.
  std::uint32_t find(Number address) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), address);
    return after == starts_.begin() ? no_network
                                    : networks_[static_cast<std::size_t>(after - starts_.begin()) - 1];
  }
  std::size_t bytes() const { return starts_.capacity() * sizeof(Number) + networks_.capacity() * 4; }

 private:
  struct Open {
    Number last;
    std::uint32_t id;
  };
  void mark(Number start, std::uint32_t id);
  void close_before(const Number* start);
  std::vector<Number> starts_{};
  std::vector<std::uint32_t> networks_{};  // in force from the start of the same place on
  std::vector<Open> open_{};               // while building: those that contain the next
};

}  // namespace plumberd
