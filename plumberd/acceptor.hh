// What every door does with its listening socket: it accepts, and pauses while descriptors are short.
#pragma once
#include <functional>
#include <string_view>

#include "ipc/loop.hh"
#include "plumberd/log.hh"

namespace plumberd {

/// accept4(2) until there is nothing left or `limit` is reached. Returns false when descriptors ran out
/// (EMFILE, ENFILE, ENOMEM): pause.
bool accept_all(int listener, int limit, const std::function<void(ipc::Fd)>& take);
/// How long nothing is accepted where descriptors are short.
constexpr ipc::Milliseconds accept_pause{50};

class Acceptor {
 public:
  using Take = std::function<void(ipc::StrangerFd)>;
  /// Owns `listener`, and lets nobody send descriptors where the kernel can refuse them. `door`, of static
  /// storage, is what the log calls it. Of those who wait at most `per_turn` are accepted in a turn of the
  /// loop.
  Acceptor(ipc::Loop& loop, Log& log, std::string_view door, ipc::Fd listener, int per_turn, Take take);
  Acceptor(const Acceptor&) = delete;

 private:
  void watch();
  void accept_some();
  ipc::Loop& loop_;
  Log& log_;
  std::string_view door_;
  ipc::Fd listener_;
  int per_turn_;
  Take take_;
  int type_;
  bool refuses_fds_;
  ipc::Poll poll_;
  ipc::Timer pause_;
  bool was_told_ = false;  ///< of the lack of descriptors: once each time it begins
};

}  // namespace plumberd
