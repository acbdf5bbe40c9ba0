// Buffers and pipes that relays borrow while bytes are under way. Private to libipc; one pool per thread.
#pragma once
#include <cstddef>
#include <memory>
#include <span>

#include "ipc/fd.hh"

namespace ipc {

/// A buffer on loan: 256 KiB while few are out, 16 KiB when receivers that do not read hold many.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& from) noexcept = default;
  Buffer& operator=(Buffer&& from) noexcept;
  ~Buffer();
  static Buffer borrow();
  std::span<char> bytes() const { return {memory_.get(), size_}; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  void give_back();
  std::unique_ptr<char[]> memory_;
  std::size_t size_ = 0;
};

/// A pipe on loan, of up to 1 MiB. It must be empty when it goes back.
class Pipe {
 public:
  Pipe() = default;
  Pipe(Pipe&& from) noexcept = default;
  Pipe& operator=(Pipe&& from) noexcept;
  ~Pipe();
  /// Empty when too many are out or the machine has none.
  static Pipe borrow();
  /// Closed instead of reused: bytes were left in it.
  void spoil();
  int in() const { return in_.borrow(); }
  int out() const { return out_.borrow(); }
  explicit operator bool() const { return static_cast<bool>(in_); }

 private:
  void give_back();
  Fd out_;
  Fd in_;
};

}  // namespace ipc
