#include "stream_parts.hh"

#include <sys/socket.h>

#include <algorithm>

namespace ipc {
namespace {
template <int (*ask)(int, sockaddr*, socklen_t*) noexcept>
std::optional<std::pair<Address, std::uint16_t>> end_of(int socket) {
  sockaddr_storage storage;
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (ask(socket, address, &size) != 0) return std::nullopt;
  return from_sockaddr(address);
}
}  // namespace

std::optional<std::pair<Address, std::uint16_t>> local_end(int socket) {
  return end_of<::getsockname>(socket);
}
std::optional<std::pair<Address, std::uint16_t>> peer_end(int socket) {
  return end_of<::getpeername>(socket);
}

std::string labels_text(std::string_view scheme, const Endpoints& ends, const Labels& more) {
  std::string text;
  text.reserve(128);
  JsonWriter writer{text};
  writer.object().add("scheme", scheme);
  if (ends.peer) {
    writer.add("peer.address", to_string(ends.peer->first));
    writer.add("peer.port", std::to_string(ends.peer->second));
  }
  if (ends.local) writer.add("local.address", to_string(ends.local->first));
  for (const auto& [name, value] : more) writer.add(name, value);
  writer.end();
  return text;
}

std::string place(std::string_view host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string_view::npos;
  std::string text = v6 ? "[" : "";
  text += host;
  text += v6 ? "]:" : ":";
  return text + std::to_string(port);
}

Milliseconds shorter(Milliseconds a, Milliseconds b) {
  return a.count() == 0 || b.count() == 0 ? std::max(a, b) : std::min(a, b);
}
}  // namespace ipc
