// The dialler's side of the hop in datagrams, towards one address (docs/protocol.md, "The hop in datagrams").
#pragma once
#include <functional>
#include <string>

#include "ipc/loop.hh"
#include "udpd/hop_datagram.hh"
#include "udpd/socket.hh"

namespace udpd {

class Exchange {
 public:
  struct Plan {
    Peer peer{};
    SocketOptions options{};
    std::string frame{};  ///< the hop's
    std::string host{};   ///< what sentences call the far side
    ipc::Fd socket{};     ///< connected already; else one is made
  };
  struct Handlers {
    /// Once, at the first cookie: a router is there. The others may be given up here, not this one.
    std::function<void(Exchange&)> on_alive;
    /// Once, last; destroying the exchange here is fine.
    std::function<void(Exchange&, ipc::Result<>)> on_end;
  };
  Exchange(ipc::Loop& loop, Plan plan, Handlers handlers);
  Exchange(const Exchange&) = delete;
  /// Tells the far side, where it may wait for us.
  ~Exchange();
  /// `on_end` may come from in here.
  void start();
  /// After OK: connected, non-blocking, with nothing of the hop in it, now or later.
  ipc::Fd take() && { return std::move(plan_.socket); }

 private:
  ipc::Result<> open();
  void tick();
  void say_hello();
  void on_ready();
  void hear(std::string_view datagram);
  void on_cookie(const Cookie& cookie);
  void on_answer(std::string_view frame);
  void on_accepted();
  void say(Kind kind);
  void lose(int code);
  void end(ipc::Result<> outcome);

  ipc::Loop& loop_;
  Plan plan_;
  Handlers handlers_;
  Nonce nonce_{};
  Cookie cookie_{};
  int tries_ = 0;    ///< hellos of this kind that were not answered yet
  int cookies_ = 0;  ///< received
  bool garbage_ = false;
  bool ended_ = false;
  ipc::Poll poll_;
  ipc::Timer retry_;
};

}  // namespace udpd
