// Listening, at every address of the URI; and what lives longer than its listener.
#include <algorithm>

#include "ipc/resolve.hh"
#include "udpd/port.hh"
#include "udpd/scheme.hh"

namespace udpd {
namespace {
class UdpListener final : public ipc::Listener {
 public:
  UdpListener(Udp& scheme, ipc::Helper& helper, ipc::ListenRequest request)
      : scheme_{scheme}, helper_{helper}, request_{std::move(request)} {}

  ipc::Result<> open() {
    const auto addresses = ipc::addresses_without_resolver(request_.uri);
    if (addresses.empty())
      return ipc::fail(ipc::Word::bad_request,
                       "cannot listen on " + request_.uri.host + ": give an address or localhost");
    number_ = request_.uri.port_or_default();
    const bool is_any_port = number_ == 0;
    for (const auto& address : addresses) {
      auto port = std::make_unique<Port>(scheme_, helper_, request_);
      Peer at{address, number_};
      auto opened = port->open(at);
      // localhost: a machine without IPv6 has only the first. (Of a port that the kernel chose for the first,
      // somebody may have the second.)
      const bool may_lack = !ports_.empty() && (opened.has_value() ||
                                                opened.error().word == ipc::Word::unreachable || is_any_port);
      if (!opened && !may_lack) return opened;
      if (!opened) continue;
      number_ = at.port;
      ports_.push_back(std::move(port));
    }
    return {};
  }

  std::string uri() const override {
    const auto text = "udp://" + place(request_.uri.host, number_);
    return request_.uri.service.empty() ? text : text + "/" + request_.uri.service;
  }

 private:
  Udp& scheme_;
  ipc::Helper& helper_;
  ipc::ListenRequest request_;
  std::uint16_t number_ = 0;
  std::vector<std::unique_ptr<Port>> ports_;
};

bool is_datagram(const ipc::Fd& socket) { return ipc::type_of(socket.borrow()) == SOCK_DGRAM; }
}  // namespace

ipc::Result<std::unique_ptr<ipc::Listener>> Udp::listen(ipc::Helper& helper, ipc::ListenRequest request) {
  auto listener = std::make_unique<UdpListener>(*this, helper, std::move(request));
  TRY(listener->open());
  return listener;
}

bool Udp::relay(ipc::Helper& helper, ipc::Fd& a, ipc::Fd& b, const ipc::RelayOptions& options) {
  if (!is_datagram(a) && !is_datagram(b)) return false;
  if (!is_datagram(a)) std::swap(a, b);
  const auto idle = options.idle.count() > 0 ? options.idle : Limits{}.idle;
  auto flow = RelayedFlow::open(helper, std::move(b), options.framing, idle);
  if (flow) keep(helper, std::move(*flow), std::move(a));
  if (!flow) helper.log("error", "relay: " + flow.error().text);
  return true;
}

void Udp::keep(ipc::Helper& helper, std::unique_ptr<RelayedFlow> flow, ipc::Fd socket) {
  helper.begin_work();
  const auto place = kept_.insert(kept_.end(), std::move(flow));
  (*place)->own(std::move(socket), [this, &helper, place] {
    kept_.erase(place);
    helper.end_work();
  });
}
}  // namespace udpd
