// A flow whose datagrams udpd carries itself: beyond the sockets that a port bears, and for services that
// cannot be given a socket.
#pragma once
#include <functional>
#include <memory>

#include "ipc/helper.hh"
#include "udpd/socket.hh"

namespace udpd {

class RelayedFlow {
 public:
  /// Once; destroying the flow there is fine.
  using OnEnd = std::function<void()>;
  /// `service`: a connected socket. Datagram and seqpacket sockets get and give one datagram at a time. A
  /// stream gets the datagrams' bytes, or with a framing one message for each datagram that is one.
  static ipc::Result<std::unique_ptr<RelayedFlow>> open(ipc::Helper& helper, ipc::Fd service,
                                                        ipc::Framing framing, ipc::Milliseconds idle);
  RelayedFlow(const RelayedFlow&) = delete;
  /// Keeps what counts it as a relay to its service.
  void keep(std::shared_ptr<void> counted) { counted_ = std::move(counted); }
  /// Carries from now on: the service's datagrams leave through `outlet`.
  void start(Outlet outlet, OnEnd on_end);
  /// What came from the peer. False: the service is gone, and nobody is told by `on_end`.
  bool push(std::span<const std::string_view> datagrams);
  /// Goes on by itself over a socket connected to the peer; started or not.
  void own(ipc::Fd socket, OnEnd on_end);

 private:
  RelayedFlow(ipc::Helper& helper, ipc::Fd service, int type, ipc::Framing framing, ipc::Milliseconds idle);
  void on_service(int events);
  void read_datagrams();
  void read_stream();
  bool forward_frames();
  void forward(std::span<const std::string_view> datagrams);
  void warn() const;
  bool push_stream(std::string_view bytes);
  bool flush();
  int wanted() const;
  void on_peer();
  void watch_idle(ipc::Milliseconds delay);
  void end();

  ipc::Helper& helper_;
  std::shared_ptr<void> counted_;
  ipc::Carried* carried_ = nullptr;  ///< null: a relay behind this flow counts
  ipc::Fd service_;
  ipc::Fd own_;
  int type_;
  bool is_unix_ = ipc::domain_of(service_.borrow()) == AF_UNIX;
  ipc::Framing framing_;
  ipc::Milliseconds idle_;
  std::uint64_t active_at_ = 0;
  bool has_warned_ = false;
  Outlet outlet_;
  OnEnd on_end_;
  std::string unsent_;  ///< rest of what a stream had no room for; at most one datagram
  ipc::FrameReader reader_{ipc::Framing::ipc07};
  ipc::Poll poll_;
  ipc::Poll own_poll_;
  ipc::Timer timer_;
};

}  // namespace udpd
