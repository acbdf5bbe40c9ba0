#include "tests/e2e/udp_kit.hh"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cstring>

#include "ipc/address.hh"
#include "ipc/base64.hh"

namespace kit {
namespace {
socklen_t address_of(const char* address, std::uint16_t port, sockaddr_storage& storage) {
  return ipc::to_sockaddr(*ipc::parse_address(address), port, storage);
}

ipc::Fd new_udp(const char* address) {
  const bool v6 = std::string_view{address}.find(':') != std::string_view::npos;
  ipc::Fd socket{::socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (!socket) give_up("socket: " + ipc::errno_text(errno));
  return socket;
}

void bind_udp(int socket, const char* address, std::uint16_t port) {
  sockaddr_storage storage;
  const auto size = address_of(address, port, storage);
  if (::bind(socket, reinterpret_cast<sockaddr*>(&storage), size) != 0)
    give_up("bind: " + ipc::errno_text(errno));
}
}  // namespace

ipc::Fd udp_socket(const char* address, std::uint16_t port) {
  auto socket = new_udp(address);
  bind_udp(socket.borrow(), address, port);
  return socket;
}

ipc::Fd udp_to(std::uint16_t port, const char* address, const char* source) {
  auto socket = new_udp(address);
  if (source != nullptr) bind_udp(socket.borrow(), source, 0);
  sockaddr_storage storage;
  const auto size = address_of(address, port, storage);
  if (::connect(socket.borrow(), reinterpret_cast<sockaddr*>(&storage), size) != 0)
    give_up("connect: " + ipc::errno_text(errno));
  return socket;
}

void send_datagram(int socket, std::string_view bytes) {
  if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size()))
    give_up("send: " + ipc::errno_text(errno));
}

std::optional<std::string> receive_datagram(int socket, Milliseconds within) {
  std::string bytes(65'536, '\0');
  if (!is_readable(socket, within)) return std::nullopt;
  const auto size = ::recv(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (size < 0) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

bool is_empty(int socket) { return !receive_datagram(socket, Milliseconds{0}); }

std::string hop_word(udpd::Kind kind, unsigned char number, const udpd::Cookie& cookie) {
  return udpd::encode({.kind = kind, .nonce = {number, 2, 3}, .cookie = cookie});
}

std::string hello(std::string_view service, unsigned char number, const udpd::Cookie& cookie) {
  const auto frame = must(udpd::hello_frame({.service = std::string(service)}));
  return udpd::encode({.kind = udpd::Kind::hello, .nonce = {number, 2, 3}, .cookie = cookie, .frame = frame});
}

HopWord receive_hop(int socket, Milliseconds within) {
  HopWord got{.bytes = receive_datagram(socket, within).value_or(""), .word = {}};
  const auto word = udpd::decode(got.bytes);
  if (!word) give_up("wanted a hop datagram, got " + std::to_string(got.bytes.size()) + " bytes");
  got.word = *word;
  return got;
}

udpd::Cookie greet(int socket, std::string_view service, unsigned char number) {
  send_datagram(socket, hello(service, number));
  auto answer = receive_hop(socket);
  // What answers earlier hellos may have come late.
  while (answer.word.kind != udpd::Kind::cookie || answer.word.nonce[0] != number)
    answer = receive_hop(socket);
  send_datagram(socket, hello(service, number, answer.word.cookie));
  return answer.word.cookie;
}

void wait_until_read(std::uint16_t port, const char* address) {
  const auto peer = udp_to(port, address);
  send_datagram(peer.borrow(), hello("any", 1));
  receive_hop(peer.borrow());
}

void admit(ScriptedRouter& router, std::string_view token) {
  const auto question = router.expect("accepted");
  router.answer(question, R"({"token":")" + std::string(token) + R"(","mode":"deliver"})");
}

Delivered delivered(ScriptedRouter& router) {
  auto datagram = router.expect("deliver");
  const auto params = datagram.message->params;
  Delivered found{
      .socket = datagram.take_fd(), .path = std::string(params["path"].string_or("")), .first = {}};
  for (const auto& text : params["first"].strings()) found.first.push_back(*ipc::base64_decode(text));
  return found;
}

Link::Link(std::uint16_t far, Policy policy, const char* address)
    : far_{far},
      policy_{std::move(policy)},
      address_{address},
      front_{udp_socket(address)},
      stop_{::eventfd(0, EFD_CLOEXEC)},
      thread_{[this] { run(); }} {}

Link::~Link() {
  ::eventfd_write(stop_.borrow(), 1);
  thread_.join();
}

void Link::run() {
  std::string bytes(65'536, '\0');
  for (;;) {
    std::vector<pollfd> wanted{{stop_.borrow(), POLLIN, 0}, {front_.borrow(), POLLIN, 0}};
    std::vector<std::uint16_t> clients;
    for (const auto& [client, socket] : back_) {
      wanted.push_back({socket.borrow(), POLLIN, 0});
      clients.push_back(client);
    }
    ::poll(wanted.data(), wanted.size(), -1);
    if (wanted[0].revents != 0) return;
    const std::lock_guard hold{lock_};
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    if (wanted[1].revents != 0) {
      const auto got = ::recvfrom(front_.borrow(), bytes.data(), bytes.size(), MSG_DONTWAIT,
                                  reinterpret_cast<sockaddr*>(&from), &size);
      const auto client = ipc::from_sockaddr(reinterpret_cast<sockaddr*>(&from));
      if (got >= 0 && client)
        pass(Way::there, client->second, bytes.substr(0, static_cast<std::size_t>(got)));
    }
    for (std::size_t i = 0; i < clients.size(); ++i) {
      if (wanted[i + 2].revents == 0) continue;
      const auto got = ::recv(wanted[i + 2].fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (got >= 0) pass(Way::back, clients[i], bytes.substr(0, static_cast<std::size_t>(got)));
    }
  }
}

void Link::pass(Way way, std::uint16_t client, std::string bytes) {
  if (!back_.contains(client)) back_[client] = udp_to(far_, address_);
  const int copies = policy_(way, counts_[way]++, bytes);
  const Passed passed{way, client, std::move(bytes)};
  all_.push_back(passed);
  if (copies < 0) return held_[way].push_back(passed);
  for (int i = 0; i < copies; ++i) put(passed);
  for (const auto& late : std::exchange(held_[way], {})) put(late);
}

void Link::put(const Passed& passed) {
  if (passed.way == Way::there) {
    ::send(back_[passed.client].borrow(), passed.bytes.data(), passed.bytes.size(), MSG_DONTWAIT);
    return;
  }
  sockaddr_storage to;
  const auto size = address_of(address_, passed.client, to);
  ::sendto(front_.borrow(), passed.bytes.data(), passed.bytes.size(), MSG_DONTWAIT,
           reinterpret_cast<sockaddr*>(&to), size);
}

void Link::replay() {
  const std::lock_guard hold{lock_};
  for (const auto& passed : all_) put(passed);
}
HelloFlood::HelloFlood(std::uint16_t port)
    : port_{port}, socket_{udp_socket("0.0.0.0")}, bytes_{hello("pong", 1)}, thread_{[this] { run(); }} {}

HelloFlood::~HelloFlood() {
  over_ = true;
  thread_.join();
}

void HelloFlood::run() {
  // As many as any receive queue holds: the flood takes turns with honest hellos and does not push them out.
  constexpr int in_flight = 64;
  constexpr std::uint32_t first = 0x7f400000;  // 127.64.0.0
  constexpr int most = 1 << 20;
  std::array<char, 2048> answer;
  for (int answered = 0; !over_;) {
    for (; sources_ - answered < in_flight; ++sources_)
      send_from(first + static_cast<std::uint32_t>(sources_ % most));
    if (!is_readable(socket_.borrow(), 100ms)) answered = sources_;  // lost
    while (::recv(socket_.borrow(), answer.data(), answer.size(), MSG_DONTWAIT) > 0) ++answered;
  }
}

void HelloFlood::send_from(std::uint32_t source) {
  sockaddr_in to{.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  iovec part{bytes_.data(), bytes_.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in_pktinfo))> control{};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
  header->cmsg_level = IPPROTO_IP;
  header->cmsg_type = IP_PKTINFO;
  const in_pktinfo info{.ipi_ifindex = 0, .ipi_spec_dst = {htonl(source)}, .ipi_addr = {}};
  std::memcpy(CMSG_DATA(header), &info, sizeof info);
  ::sendmsg(socket_.borrow(), &message, MSG_DONTWAIT);
}
}  // namespace kit
