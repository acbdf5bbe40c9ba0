// UDP sockets as udpd makes them, and datagrams in batches.
#pragma once
#include <sys/socket.h>

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ipc/fd.hh"
#include "udpd/peer.hh"

namespace udpd {

/// What sockets are made with, out of the settings.
struct SocketOptions {
  std::optional<ipc::Address> source{};  ///< local address of dialled sockets
  bool fragment = false;  ///< larger datagrams than the path carries are cut up instead of refused (EMSGSIZE)
};

/// A connected socket, non-blocking. UNREACHABLE says why not.
ipc::Result<ipc::Fd> dial_socket(const Peer& peer, const SocketOptions& options);
/// A socket that takes datagrams from everybody; `at.port` 0 becomes the actual one. TAKEN when another
/// socket does so already at that address and port.
ipc::Result<ipc::Fd> listen_socket(Peer& at, const SocketOptions& options);
/// A socket, blocking, at `local` that is connected to `peer` and beside which the listener of the same port
/// goes on. With `after_hop`, hop datagrams do not get in.
ipc::Result<ipc::Fd> flow_socket(const Peer& local, const Peer& peer, bool after_hop,
                                 const SocketOptions& options);
/// From now on no hop datagram gets into the (dialled) socket; what lies in it already is not touched.
ipc::Result<> keep_hop_out(int socket);

std::optional<Peer> local_end(int socket);
std::optional<Peer> peer_end(int socket);
std::optional<Peer> from_sockaddr(const sockaddr* address);
/// The inverse; returns the length to give to connect(2).
socklen_t to_sockaddr(const Peer& peer, sockaddr_storage& out);
/// Whether datagrams to that address come back here.
bool is_of_this_host(const Peer& peer);
/// "HOST:PORT", IPv6 in brackets.
std::string place(std::string_view host, std::uint16_t port);
std::string place(const Peer& peer);

/// One datagram that came in; the view lives until the next `receive`.
struct Arrival {
  Peer peer{};
  std::optional<ipc::Address> local{};  ///< where it was sent to, where the socket tells (listen on any)
  std::string_view bytes{};
};

/// The most datagrams that one system call moves.
constexpr std::size_t batch_size = 32;

/// Up to `batch_size` datagrams of any size, without waiting. An error of the socket (ICMP) is its errno;
/// 0 with nothing received: there is nothing.
struct Batch {
  std::span<const Arrival> arrivals{};
  int code = 0;
};
/// One buffer serves all sockets of the thread.
Batch receive(int socket);

/// How a relayed flow's datagrams leave: over a connected socket, or over a listener's.
struct Outlet {
  int socket = -1;  ///< borrowed
  std::optional<Peer> to{};
  std::optional<ipc::Address> from{};
};
/// Sends up to `batch_size` of them; what the kernel has no room for is lost, as datagrams are. Returns how
/// many were lost because they are larger than the path carries.
std::size_t send(const Outlet& outlet, std::span<const std::string_view> datagrams);
/// One datagram of many that leave an unconnected socket together.
struct Letter {
  Peer to{};
  std::optional<ipc::Address> from{};
  std::string bytes{};
};
void send(int socket, std::span<const Letter> letters);
/// The same into a connected socket that keeps datagrams apart. False: the other side is gone.
bool send(int socket, std::span<const std::string_view> datagrams);

}  // namespace udpd
