// What the router makes sure of before it hands on a socket that came from a helper.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "ipc/address.hh"
#include "plumberd/helper.hh"

namespace plumberd {
namespace {
bool is_stream_scheme(std::string_view scheme) { return scheme == "tcp" || scheme == "tls"; }
bool is_datagram_scheme(std::string_view scheme) { return scheme == "udp" || scheme == "dtls"; }

/// Was it, a moment ago?
std::unexpected<ipc::Error> not_connected(int fd) {
  int code = 0;
  socklen_t size = sizeof code;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) == 0 && code != 0)
    return ipc::fail(ipc::Word::unreachable,
                     "the other side ended the connection as soon as it was made: " + ipc::errno_text(code));
  return ipc::fail(ipc::Word::bad_request, "it is not connected");
}
}  // namespace

ipc::Result<PeerSocket> inspect_socket(int fd) {
  PeerSocket socket;
  socklen_t size = sizeof socket.type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &socket.type, &size) != 0)
    return ipc::fail(ipc::Word::bad_request, "it is no socket");
  sockaddr_storage storage;
  auto* peer = reinterpret_cast<sockaddr*>(&storage);
  size = sizeof storage;
  if (::getpeername(fd, peer, &size) != 0) return not_connected(fd);
  socket.peer = ipc::from_sockaddr(peer);
  const bool known =
      (socket.peer || peer->sa_family == AF_UNIX) &&
      (socket.type == SOCK_STREAM || socket.type == SOCK_DGRAM || socket.type == SOCK_SEQPACKET);
  if (!known) return ipc::fail(ipc::Word::bad_request, "it is a socket of another family or type");
  return socket;
}

void forget_timeouts(int fd) {
  const timeval never{};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    ::setsockopt(fd, SOL_SOCKET, option, &never, sizeof never);
}

ipc::Result<> check_peer(std::string_view scheme, const PeerSocket& socket,
                         std::span<const std::string> addresses, std::uint16_t port) {
  if (!is_stream_scheme(scheme) && !is_datagram_scheme(scheme)) return {};
  if ((socket.type == SOCK_STREAM) != is_stream_scheme(scheme))
    return ipc::fail(ipc::Word::internal, "it is no socket of the type that " + std::string(scheme) + " has");
  if (!socket.peer) return {};
  const auto& [actual, actual_port] = *socket.peer;
  const auto is_it = [&actual](const std::string& text) {
    const auto address = ipc::parse_address(text);
    return address && ipc::embedded(*address) == ipc::embedded(actual);
  };
  if (std::ranges::any_of(addresses, is_it) && (port == 0 || actual_port == port)) return {};
  return ipc::fail(ipc::Word::internal, "it leads to an address that was not judged");
}
}  // namespace plumberd
