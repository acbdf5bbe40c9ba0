// Datagrams in batches: recvmmsg(2) and sendmmsg(2).
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "udpd/socket.hh"

namespace udpd {
namespace {
constexpr std::size_t largest = 65'536;
constexpr std::size_t source_room = CMSG_SPACE(sizeof(in6_pktinfo));
/// Everything that one recvmmsg needs; only the pages that datagrams touch are ever real.
struct Buffers {
  std::array<mmsghdr, batch_size> headers{};
  std::array<iovec, batch_size> parts;
  std::array<sockaddr_storage, batch_size> names;
  alignas(cmsghdr) std::array<std::array<char, ipc::fds_room>, batch_size> controls;
  std::array<Arrival, batch_size> arrivals;
  std::array<std::array<char, largest>, batch_size> bytes;

  Buffers() {
    for (std::size_t i = 0; i < batch_size; ++i) {
      parts[i] = {bytes[i].data(), largest};
      headers[i].msg_hdr.msg_iov = &parts[i];
      headers[i].msg_hdr.msg_iovlen = 1;
      headers[i].msg_hdr.msg_name = &names[i];
      headers[i].msg_hdr.msg_control = controls[i].data();
      reset(i);
    }
  }
  /// What the kernel writes over.
  void reset(std::size_t i) {
    headers[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage);
    headers[i].msg_hdr.msg_controllen = ipc::fds_room;
  }
};

Buffers& buffers() {
  static thread_local const auto kept = std::make_unique<Buffers>();
  return *kept;
}

std::optional<ipc::Address> sent_to(msghdr& header) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    ipc::Address address;
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      std::memcpy(address.bytes.data(), &info.ipi_spec_dst, 4);
      return address;
    }
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      address.v6 = true;
      std::memcpy(address.bytes.data(), &info.ipi6_addr, 16);
      return address;
    }
  }
  return std::nullopt;
}

/// The control message that makes `from` the source address of what is sent.
std::size_t put_source(const ipc::Address& from, char* control) {
  auto* part = reinterpret_cast<cmsghdr*>(control);
  if (from.v6) {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, from.bytes.data(), 16);
    *part = {.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
    std::memcpy(CMSG_DATA(part), &info, sizeof info);
    return CMSG_SPACE(sizeof info);
  }
  in_pktinfo info{};
  std::memcpy(&info.ipi_spec_dst, from.bytes.data(), 4);
  *part = {.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
  std::memcpy(CMSG_DATA(part), &info, sizeof info);
  return CMSG_SPACE(sizeof info);
}

/// What is wrong with the socket, or with the one that it is connected to. Everything else is about one
/// datagram: too large, to where no route leads, refused by a firewall, ...
bool is_of_socket(int code) {
  constexpr std::array of_socket{EAGAIN, ENOBUFS, ENOMEM, ECONNREFUSED, ECONNRESET, EPIPE, ENOTCONN, EBADF};
  return std::ranges::find(of_socket, code) != of_socket.end();
}

/// Sends all of them; what is refused for its own sake is lost, alone, and counted in `too_large` where that
/// is why. Other errors are the result. A pending ICMP error of the peer is told once, instead of sending
/// (udp(7)): the same datagram is tried again.
int send_each(int socket, std::span<mmsghdr> headers, std::size_t* too_large = nullptr) {
  std::size_t done = 0;
  auto refused = headers.size();  ///< the last one that was
  while (done < headers.size()) {
    const auto left = static_cast<unsigned>(headers.size() - done);
    const int sent = ::sendmmsg(socket, headers.data() + done, left, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) done += static_cast<std::size_t>(sent);
    if (sent > 0 || errno == EINTR) continue;
    if (errno == ECONNREFUSED && std::exchange(refused, done) != done) continue;
    if (is_of_socket(errno)) return errno;
    if (errno == EMSGSIZE && too_large != nullptr) ++*too_large;
    ++done;
  }
  return 0;
}
}  // namespace

Batch receive(int socket) {
  auto& all = buffers();
  int count = -1;
  do count = ::recvmmsg(socket, all.headers.data(), batch_size, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
  while (count < 0 && errno == EINTR);
  if (count < 0) return {.code = errno == EAGAIN ? 0 : errno};
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    auto& header = all.headers[i].msg_hdr;
    ipc::close_fds(header);  // a service on a UNIX socket may send some
    const auto from = header.msg_namelen > 0 ? from_sockaddr(reinterpret_cast<const sockaddr*>(&all.names[i]))
                                             : std::nullopt;
    all.arrivals[i] = {.peer = from.value_or(Peer{}),
                       .local = sent_to(header),
                       .bytes = {all.bytes[i].data(), all.headers[i].msg_len}};
    all.reset(i);
  }
  return {.arrivals = std::span{all.arrivals}.first(static_cast<std::size_t>(count))};
}

std::size_t send(const Outlet& outlet, std::span<const std::string_view> datagrams) {
  std::array<mmsghdr, batch_size> headers;  // filled as far as they are used, here and below
  std::array<iovec, batch_size> parts;
  sockaddr_storage name;
  alignas(cmsghdr) std::array<char, source_room> control{};
  const socklen_t named = outlet.to ? to_sockaddr(*outlet.to, name) : 0;
  const std::size_t controlled = outlet.from ? put_source(*outlet.from, control.data()) : 0;
  const auto count = std::min(datagrams.size(), batch_size);
  for (std::size_t i = 0; i < count; ++i) {
    parts[i] = {const_cast<char*>(datagrams[i].data()), datagrams[i].size()};
    headers[i].msg_hdr = {.msg_name = outlet.to ? &name : nullptr,
                          .msg_namelen = named,
                          .msg_iov = &parts[i],
                          .msg_iovlen = 1,
                          .msg_control = controlled > 0 ? control.data() : nullptr,
                          .msg_controllen = controlled,
                          .msg_flags = 0};
  }
  std::size_t too_large = 0;
  send_each(outlet.socket, std::span{headers}.first(count), &too_large);
  return too_large;
}

void send(int socket, std::span<const Letter> letters) {
  std::array<mmsghdr, batch_size> headers;
  std::array<iovec, batch_size> parts;
  std::array<sockaddr_storage, batch_size> names;
  alignas(cmsghdr) std::array<std::array<char, source_room>, batch_size> controls;
  const auto count = std::min(letters.size(), batch_size);
  for (std::size_t i = 0; i < count; ++i) {
    const auto& letter = letters[i];
    parts[i] = {const_cast<char*>(letter.bytes.data()), letter.bytes.size()};
    auto& header = headers[i].msg_hdr;
    header = {.msg_name = &names[i],
              .msg_namelen = to_sockaddr(letter.to, names[i]),
              .msg_iov = &parts[i],
              .msg_iovlen = 1,
              .msg_control = nullptr,
              .msg_controllen = 0,
              .msg_flags = 0};
    if (!letter.from) continue;
    controls[i] = {};
    header.msg_control = controls[i].data();
    header.msg_controllen = put_source(*letter.from, controls[i].data());
  }
  send_each(socket, std::span{headers}.first(count));
}

bool send(int socket, std::span<const std::string_view> datagrams) {
  std::array<mmsghdr, batch_size> headers;
  std::array<iovec, batch_size> parts;
  const auto count = std::min(datagrams.size(), batch_size);
  for (std::size_t i = 0; i < count; ++i) {
    parts[i] = {const_cast<char*>(datagrams[i].data()), datagrams[i].size()};
    headers[i].msg_hdr = {.msg_name = nullptr,
                          .msg_namelen = 0,
                          .msg_iov = &parts[i],
                          .msg_iovlen = 1,
                          .msg_control = nullptr,
                          .msg_controllen = 0,
                          .msg_flags = 0};
  }
  const int code = send_each(socket, std::span{headers}.first(count));
  return code == 0 || code == EAGAIN || code == ENOBUFS || code == ENOMEM;
}
}  // namespace udpd
