#include "udpd/census.hh"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <functional>

#include "ipc/fd.hh"

namespace udpd {
namespace {
using OnSocket = std::function<void(const inet_diag_msg&)>;

ipc::Address address_in(const __be32* words, bool v6) {
  ipc::Address address;
  address.v6 = v6;
  std::memcpy(address.bytes.data(), words, v6 ? 16 : 4);
  return address;
}

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

Request request_for(bool v6, std::uint16_t port) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = v6 ? AF_INET6 : AF_INET;
  request.body.sdiag_protocol = IPPROTO_UDP;
  request.body.idiag_states = ~0U;
  request.body.id.idiag_sport = htons(port);
  request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

/// False at the end of the answer.
bool read_part(const char* bytes, std::size_t size, const OnSocket& on_socket) {
  auto left = static_cast<int>(size);
  for (auto* header = reinterpret_cast<const nlmsghdr*>(bytes); NLMSG_OK(header, static_cast<unsigned>(left));
       header = NLMSG_NEXT(header, left)) {
    if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) return false;
    if (header->nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return false;
    on_socket(*static_cast<const inet_diag_msg*>(NLMSG_DATA(header)));
  }
  return true;
}

/// Every UDP socket at `port`. Where the kernel does not tell, there is none.
void each_socket(bool v6, std::uint16_t port, const OnSocket& on_socket) {
  const ipc::Fd netlink{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
  auto request = request_for(v6, port);
  if (!netlink || ::send(netlink.borrow(), &request, sizeof request, 0) < 0) return;
  alignas(nlmsghdr) std::array<char, 32'768> part;
  for (;;) {
    const auto size = ::recv(netlink.borrow(), part.data(), part.size(), 0);
    if (size <= 0 || !read_part(part.data(), static_cast<std::size_t>(size), on_socket)) return;
  }
}

bool is_unspecified(const ipc::Address& address) { return ipc::special_range(address) == "unspecified"; }
}  // namespace

bool is_shared(const Peer& at) {
  std::size_t found = 0;
  each_socket(at.address.v6, at.port, [&](const inet_diag_msg& socket) {
    const auto local = address_in(socket.id.idiag_src, at.address.v6);
    if (socket.idiag_state == TCP_ESTABLISHED || ntohs(socket.id.idiag_sport) != at.port) return;
    if (local == at.address || is_unspecified(local) || is_unspecified(at.address)) ++found;
  });
  return found > 1;
}

bool is_connected(const Peer& local, const Peer& peer) {
  bool found = false;
  each_socket(local.address.v6, local.port, [&](const inet_diag_msg& socket) {
    const bool is_local = address_in(socket.id.idiag_src, local.address.v6) == local.address;
    const bool is_peer = ntohs(socket.id.idiag_dport) == peer.port &&
                         address_in(socket.id.idiag_dst, peer.address.v6) == peer.address &&
                         (peer.scope == 0 || socket.id.idiag_if == peer.scope);
    found = found || (socket.idiag_state == TCP_ESTABLISHED && is_local && is_peer);
  });
  return found;
}

std::size_t Census::of_prefix(const ipc::Address& peer) const {
  const auto found = by_prefix_.find(prefix_of(peer));
  return found == by_prefix_.end() ? 0 : found->second;
}

void Census::look_again(std::uint64_t now) {
  if (looked_at_ != 0 && now < looked_at_ + pause_ms) return;
  looked_at_ = now == 0 ? 1 : now;
  total_ = 0;
  by_prefix_.clear();
  each_socket(v6_, port_, [&](const inet_diag_msg& socket) {
    if (socket.idiag_state == TCP_ESTABLISHED && ntohs(socket.id.idiag_sport) == port_)
      note(address_in(socket.id.idiag_dst, v6_));
  });
}
}  // namespace udpd
