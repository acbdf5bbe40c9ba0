#include "plumberd/ranges.hh"

namespace plumberd {
namespace {
/// The next address; false after the last one.
bool advance(std::uint32_t& number) { return ++number != 0; }
bool advance(Number128& number) {
  if (++number.low != 0) return true;
  return ++number.high != 0;
}

std::uint64_t big_endian(const std::uint8_t* bytes) {
  std::uint64_t number = 0;
  for (int i = 0; i < 8; ++i) number = number << 8 | bytes[i];
  return number;
}
}  // namespace

std::uint32_t number32(const ipc::Address& address) {
  return static_cast<std::uint32_t>(big_endian(address.bytes.data()) >> 32);
}
Number128 number128(const ipc::Address& address) {
  return {big_endian(address.bytes.data()), big_endian(address.bytes.data() + 8)};
}

template <class Number>
void Ranges<Number>::mark(Number start, std::uint32_t id) {
  if (!starts_.empty() && starts_.back() == start) {
    networks_.back() = id;
    return;
  }
  starts_.push_back(start);
  networks_.push_back(id);
}

/// Closes the open networks that end before `start` (all without one); behind each its parent is in force.
template <class Number>
void Ranges<Number>::close_before(const Number* start) {
  while (!open_.empty() && (start == nullptr || open_.back().last < *start)) {
    auto next = open_.back().last;
    open_.pop_back();
    if (advance(next)) mark(next, open_.empty() ? no_network : open_.back().id);
  }
}

template <class Number>
std::uint32_t Ranges<Number>::add(Number first, Number last, std::uint32_t id) {
  close_before(&first);
  const auto parent = open_.empty() ? no_network : open_.back().id;
  mark(first, id);
  open_.push_back({last, id});
  return parent;
}

template <class Number>
void Ranges<Number>::finish() {
  close_before(nullptr);
  starts_.shrink_to_fit();
  networks_.shrink_to_fit();
  open_ = {};
}

template class Ranges<std::uint32_t>;
template class Ranges<Number128>;
}  // namespace plumberd
