// udp:// for plumberd.
#pragma once
#include <list>
#include <memory>

#include "udpd/relayed_flow.hh"

namespace udpd {

class Udp final : public ipc::Scheme {
 public:
  std::vector<std::string> schemes() const override { return {"udp"}; }
  std::unique_ptr<ipc::Dial> dial(ipc::Helper& helper, ipc::DialRequest request) override;
  ipc::Result<std::unique_ptr<ipc::Listener>> listen(ipc::Helper& helper,
                                                     ipc::ListenRequest request) override;
  /// Datagram sockets among the two are carried here, datagram by datagram.
  bool relay(ipc::Helper& helper, ipc::Fd& a, ipc::Fd& b, const ipc::RelayOptions& options) override;
  /// Lets a flow live on that no listener carries, over a socket connected to its peer.
  void keep(ipc::Helper& helper, std::unique_ptr<RelayedFlow> flow, ipc::Fd socket);

 private:
  std::list<std::unique_ptr<RelayedFlow>> kept_;
};

}  // namespace udpd
