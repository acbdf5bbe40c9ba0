#include "relay_pool.hh"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

namespace ipc {
namespace {
constexpr std::size_t large = 256 * 1024;  // as good as splice from unix to tcp, and measured so
constexpr std::size_t small = 16 * 1024;
constexpr std::size_t most_large = 128;  // 32 MiB in all
constexpr std::size_t kept_buffers = 2;
constexpr int pipe_size = 1024 * 1024;
constexpr std::size_t most_pipes = 64;
constexpr std::size_t kept_pipes = 4;

struct Pool {
  std::vector<std::unique_ptr<char[]>> buffers;
  std::vector<std::pair<Fd, Fd>> pipes;
  std::size_t large_out = 0;
  std::size_t pipes_out = 0;
};

Pool& pool() {
  static thread_local Pool here;
  return here;
}
}  // namespace

Buffer Buffer::borrow() {
  Buffer buffer;
  auto& from = pool();
  buffer.size_ = from.large_out < most_large ? large : small;
  if (buffer.size_ == large) ++from.large_out;
  if (buffer.size_ == large && !from.buffers.empty()) {
    buffer.memory_ = std::move(from.buffers.back());
    from.buffers.pop_back();
  } else {
    buffer.memory_ = std::make_unique_for_overwrite<char[]>(buffer.size_);
  }
  return buffer;
}

void Buffer::give_back() {
  if (!memory_) return;
  auto& to = pool();
  if (size_ == large) {
    --to.large_out;
    if (to.buffers.size() < kept_buffers) to.buffers.push_back(std::move(memory_));
  }
  memory_.reset();
}

Buffer& Buffer::operator=(Buffer&& from) noexcept {
  give_back();
  memory_ = std::move(from.memory_);
  size_ = from.size_;
  return *this;
}

Buffer::~Buffer() { give_back(); }

Pipe Pipe::borrow() {
  Pipe pipe;
  auto& from = pool();
  if (from.pipes_out >= most_pipes) return pipe;
  if (!from.pipes.empty()) {
    pipe.out_ = std::move(from.pipes.back().first);
    pipe.in_ = std::move(from.pipes.back().second);
    from.pipes.pop_back();
  } else {
    int raw[2];
    if (::pipe2(raw, O_CLOEXEC | O_NONBLOCK) != 0) return pipe;
    pipe.out_ = Fd{raw[0]};
    pipe.in_ = Fd{raw[1]};
    ::fcntl(pipe.in(), F_SETPIPE_SZ, pipe_size);  // refused: the default of 64 KiB serves as well
  }
  ++from.pipes_out;
  return pipe;
}

void Pipe::spoil() {
  if (!in_) return;
  --pool().pipes_out;
  out_ = Fd{};
  in_ = Fd{};
}

void Pipe::give_back() {
  if (!in_) return;
  auto& to = pool();
  if (to.pipes.size() >= kept_pipes) return spoil();
  --to.pipes_out;
  to.pipes.emplace_back(std::move(out_), std::move(in_));
}

Pipe& Pipe::operator=(Pipe&& from) noexcept {
  give_back();
  out_ = std::move(from.out_);
  in_ = std::move(from.in_);
  return *this;
}

Pipe::~Pipe() { give_back(); }
}  // namespace ipc
