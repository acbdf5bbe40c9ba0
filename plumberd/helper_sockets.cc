// What the router makes sure of before it hands on a socket that came from a helper.
#include <sys/socket.h>

#include <algorithm>

#include "ipc/address.hh"
#include "plumberd/helper.hh"

namespace plumberd {
namespace {
bool is_stream_scheme(std::string_view scheme) { return scheme == "tcp" || scheme == "tls"; }
bool is_datagram_scheme(std::string_view scheme) { return scheme == "udp" || scheme == "dtls"; }

int option_of(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}
}  // namespace

ipc::Result<> check_socket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
    return ipc::fail(ipc::Word::bad_request, "it is no socket");
  sockaddr_storage peer{};
  size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0)
    return ipc::fail(ipc::Word::bad_request, "it is not connected");
  const int domain = peer.ss_family;
  const bool known = (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX) &&
                     (type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET);
  if (!known) return ipc::fail(ipc::Word::bad_request, "it is a socket of another family or type");
  return {};
}

ipc::Result<> check_peer(std::string_view scheme, int fd, std::span<const std::string> addresses,
                         std::uint16_t port) {
  if (!is_stream_scheme(scheme) && !is_datagram_scheme(scheme)) return {};
  if ((option_of(fd, SO_TYPE) == SOCK_STREAM) != is_stream_scheme(scheme))
    return ipc::fail(ipc::Word::internal, "it is no socket of the type that " + std::string(scheme) + " has");
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0)
    return ipc::fail_errno("getpeername");
  if (peer.ss_family == AF_UNIX) return {};
  const auto actual = ipc::from_sockaddr(reinterpret_cast<const sockaddr*>(&peer));
  const auto is_it = [&](const std::string& text) {
    const auto address = ipc::parse_address(text);
    return actual && address && ipc::embedded(*address) == ipc::embedded(actual->first);
  };
  if (std::ranges::any_of(addresses, is_it) && (port == 0 || actual->second == port)) return {};
  return ipc::fail(ipc::Word::internal, "it leads to an address that was not judged");
}
}  // namespace plumberd
