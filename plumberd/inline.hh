// A vector whose first elements live in the object: for the hot path, where lists are nearly always short.
#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace plumberd {

template <class T, std::size_t room>
class Inline {
 public:
  void push_back(const T& value) {
    if (size_ < room) {
      first_[size_++] = value;
      return;
    }
    if (size_ == room) rest_.assign(first_.begin(), first_.end());
    rest_.push_back(value);
    ++size_;
  }
  std::span<T> all() { return {size_ > room ? rest_.data() : first_.data(), size_}; }
  std::span<const T> all() const { return {size_ > room ? rest_.data() : first_.data(), size_}; }

 private:
  std::size_t size_ = 0;
  std::array<T, room> first_;  // not initialised on purpose: written before it is read
  std::vector<T> rest_{};
};

}  // namespace plumberd
