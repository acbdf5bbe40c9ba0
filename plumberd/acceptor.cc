#include "plumberd/acceptor.hh"

#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace plumberd {
bool accept_all(int listener, int limit, const std::function<void(ipc::Fd)>& take) {
  for (int i = 0; i < limit; ++i) {
    ipc::Fd socket{::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (socket) {
      take(std::move(socket));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    return errno == EAGAIN;
  }
  return true;
}

Acceptor::Acceptor(ipc::Loop& loop, Log& log, std::string_view door, ipc::Fd listener, int per_turn,
                   Take take)
    : loop_{loop},
      log_{log},
      door_{door},
      listener_{std::move(listener)},
      per_turn_{per_turn},
      take_{std::move(take)},
      type_{ipc::type_of(listener_.borrow())},
      refuses_fds_{ipc::refuse_fds(listener_.borrow())} {
  watch();
}

void Acceptor::watch() {
  poll_ = ipc::Poll{loop_, listener_.borrow(), UV_READABLE, [this](int) { accept_some(); }};
}

void Acceptor::accept_some() {
  const auto take = [this](ipc::Fd socket) {
    if (type_ == SOCK_STREAM && !refuses_fds_) ipc::take_urgent_inline(socket.borrow());
    take_(ipc::StrangerFd{std::move(socket), type_, refuses_fds_});
  };
  if (accept_all(listener_.borrow(), per_turn_, take)) {
    was_told_ = false;
    return;
  }
  poll_.stop();
  if (!std::exchange(was_told_, true)) log_.warn("out of descriptors: " + std::string(door_) + " pauses");
  pause_ = ipc::Timer{loop_, accept_pause, [this] { watch(); }};
}
}  // namespace plumberd
