#include "udpd/socket.hh"

#include <netinet/in.h>

#include <cerrno>
#include <cstring>

#include "udpd/census.hh"
#include "udpd/filter.hh"

namespace udpd {
namespace {
// A burst of first datagrams must find room while udpd looks elsewhere; cut to net.core.rmem_max for others
// than root.
constexpr int listener_buffer = 4 * 1024 * 1024;

void set(int socket, int level, int name, int value) {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

int bind_to(int socket, const Peer& at) {
  sockaddr_storage storage;
  const auto size = to_sockaddr(at, storage);
  return ::bind(socket, reinterpret_cast<const sockaddr*>(&storage), size) == 0 ? 0 : errno;
}

int connect_to(int socket, const Peer& peer) {
  sockaddr_storage storage;
  const auto size = to_sockaddr(peer, storage);
  return ::connect(socket, reinterpret_cast<const sockaddr*>(&storage), size) == 0 ? 0 : errno;
}

/// Not connected and not bound. By default what is larger than the path carries is refused, not fragmented.
ipc::Fd new_socket(const ipc::Address& like, const SocketOptions& options, int flags = SOCK_NONBLOCK) {
  ipc::Fd socket{::socket(like.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | flags, 0)};
  if (!socket) return socket;
  if (like.v6) set(socket.borrow(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  if (options.fragment) return socket;
  if (like.v6) set(socket.borrow(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
  if (!like.v6) set(socket.borrow(), IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  return socket;
}

std::unexpected<ipc::Error> cannot(const std::string& what, int code) {
  const bool exhausted = code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
  const auto word = code == EADDRINUSE ? ipc::Word::taken
                    : code == EACCES   ? ipc::Word::denied
                    : exhausted        ? ipc::Word::busy
                                       : ipc::Word::unreachable;
  return ipc::fail(word, "cannot " + what + ": " + ipc::errno_text(code));
}

bool is_unspecified(const ipc::Address& address) { return ipc::special_range(address) == "unspecified"; }

template <int (*ask)(int, sockaddr*, socklen_t*) noexcept>
std::optional<Peer> end_of(int socket) {
  sockaddr_storage storage;
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (ask(socket, address, &size) != 0) return std::nullopt;
  return from_sockaddr(address);
}
}  // namespace

ipc::Result<ipc::Fd> dial_socket(const Peer& peer, const SocketOptions& options) {
  const auto what = "connect to " + place(peer);
  if (options.source && options.source->v6 != peer.address.v6) return cannot(what, EADDRNOTAVAIL);
  auto socket = new_socket(peer.address, options);
  int code = socket ? 0 : errno;
  // Only an address that a rule allows comes here: the permission is the rule's.
  if (code == 0 && ipc::special_range(peer.address) == "broadcast")
    set(socket.borrow(), SOL_SOCKET, SO_BROADCAST, 1);
  if (code == 0 && options.source) code = bind_to(socket.borrow(), {*options.source, 0});
  if (code == 0) code = connect_to(socket.borrow(), peer);
  if (code == EACCES)
    return ipc::fail(ipc::Word::denied, "cannot " + what +
                                            ": the kernel refuses, as it does for the broadcast address of a "
                                            "network, to which udpd does not send");
  if (code != 0) return cannot(what, code);
  return socket;
}

ipc::Result<ipc::Fd> listen_socket(Peer& at, const SocketOptions& options) {
  auto socket = new_socket(at.address, options);
  if (!socket) return cannot("open a socket for " + place(at), errno);
  const int raw = socket.borrow();
  const bool any_port = at.port == 0;
  // A port that the kernel chooses must not be one that is shared already: then only afterwards.
  if (!any_port) set(raw, SOL_SOCKET, SO_REUSEPORT, 1);
  if (const int code = bind_to(raw, at); code != 0) return cannot("bind " + place(at), code);
  if (any_port) set(raw, SOL_SOCKET, SO_REUSEPORT, 1);
  if (const auto actual = local_end(raw)) at.port = actual->port;
  if (!any_port && is_shared(at)) return cannot("bind " + place(at), EADDRINUSE);
  if (is_unspecified(at.address) && at.address.v6) set(raw, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  if (is_unspecified(at.address) && !at.address.v6) set(raw, IPPROTO_IP, IP_PKTINFO, 1);
  const int size = listener_buffer;
  if (::setsockopt(raw, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
    set(raw, SOL_SOCKET, SO_RCVBUF, size);
  return socket;
}

ipc::Result<ipc::Fd> flow_socket(const Peer& local, const Peer& peer, bool after_hop,
                                 const SocketOptions& options) {
  auto socket = new_socket(local.address, options, 0);  // as its next owner wants it
  if (!socket) return cannot("open a socket for " + place(peer), errno);
  set(socket.borrow(), SOL_SOCKET, SO_REUSEPORT, 1);
  // Before bind: until it is connected the newest socket of a port would get everybody's datagrams.
  TRY(attach_filter(socket.borrow(), peer, after_hop));
  if (const int code = bind_to(socket.borrow(), local); code != 0)
    return cannot("bind " + place(local), code);
  if (const int code = connect_to(socket.borrow(), peer); code != 0)
    return cannot("connect to " + place(peer), code);
  return socket;
}

ipc::Result<> keep_hop_out(int socket) { return attach_filter(socket, std::nullopt, true); }

std::optional<Peer> local_end(int socket) { return end_of<::getsockname>(socket); }
std::optional<Peer> peer_end(int socket) { return end_of<::getpeername>(socket); }

std::optional<Peer> from_sockaddr(const sockaddr* address) {
  const auto end = ipc::from_sockaddr(address);
  if (!end) return std::nullopt;
  // The kernel gives it to link-local addresses only.
  const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
  return Peer{end->first, end->second, end->first.v6 ? in6->sin6_scope_id : 0};
}

socklen_t to_sockaddr(const Peer& peer, sockaddr_storage& out) {
  const auto size = ipc::to_sockaddr(peer.address, peer.port, out);
  if (peer.address.v6) reinterpret_cast<sockaddr_in6*>(&out)->sin6_scope_id = peer.scope;
  return size;
}

/// What is sent to an address of ours comes from it. (That bind(2) takes an address says less:
/// net.ipv4.ip_nonlocal_bind.)
bool is_of_this_host(const Peer& peer) {
  if (ipc::special_range(peer.address) == "loopback") return true;
  const auto socket = new_socket(peer.address, {});
  sockaddr_storage storage;
  if (!socket ||
      ::connect(socket.borrow(), reinterpret_cast<sockaddr*>(&storage), to_sockaddr(peer, storage)) != 0)
    return false;
  socklen_t size = sizeof storage;
  if (::getsockname(socket.borrow(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return false;
  const auto own = from_sockaddr(reinterpret_cast<sockaddr*>(&storage));
  return own && own->address == peer.address;
}

std::string place(std::string_view host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string_view::npos;
  std::string text = v6 ? "[" : "";
  text += host;
  text += v6 ? "]:" : ":";
  return text + std::to_string(port);
}

std::string place(const Peer& peer) { return place(ipc::to_string(peer.address), peer.port); }
}  // namespace udpd
