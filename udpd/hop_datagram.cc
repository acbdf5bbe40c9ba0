#include "udpd/hop_datagram.hh"

#include <algorithm>
#include <cstring>

#include "ipc/name.hh"

namespace udpd {
namespace {
constexpr std::size_t nonce_at = 8, kind_at = 16, length_at = 18, cookie_at = 20;

std::string_view bytes_of(const auto& field) {
  return {reinterpret_cast<const char*>(field.data()), field.size()};
}

std::size_t number_at(std::string_view bytes, std::size_t at) {
  return static_cast<std::size_t>(static_cast<unsigned char>(bytes[at])) << 8 |
         static_cast<unsigned char>(bytes[at + 1]);
}
}  // namespace

bool has_magic(std::string_view datagram) { return datagram.starts_with(bytes_of(magic)); }

std::optional<HopDatagram> decode(std::string_view datagram) {
  if (datagram.size() < header_size || datagram.size() > longest_datagram || !has_magic(datagram))
    return std::nullopt;
  const auto kind = static_cast<unsigned char>(datagram[kind_at]);
  const auto length = number_at(datagram, length_at);
  if (kind < 1 || kind > 5 || header_size + length > datagram.size()) return std::nullopt;
  HopDatagram found{.kind = static_cast<Kind>(kind), .frame = datagram.substr(header_size, length)};
  std::memcpy(found.nonce.data(), datagram.data() + nonce_at, found.nonce.size());
  std::memcpy(found.cookie.data(), datagram.data() + cookie_at, found.cookie.size());
  return found;
}

std::string encode(const HopDatagram& datagram) {
  std::string bytes;
  bytes.reserve(std::max(shortest_hello, header_size + datagram.frame.size()));
  bytes.append(bytes_of(magic)).append(bytes_of(datagram.nonce));
  bytes += static_cast<char>(datagram.kind);
  bytes += '\0';
  bytes += static_cast<char>(datagram.frame.size() >> 8);
  bytes += static_cast<char>(datagram.frame.size());
  bytes.append(bytes_of(datagram.cookie)).append(datagram.frame);
  if (datagram.kind == Kind::hello && bytes.size() < shortest_hello) bytes.resize(shortest_hello);
  return bytes;
}

std::optional<ipc::Frame> whole_frame(std::string_view bytes) {
  const auto header = ipc::decode_header(ipc::Framing::ipc07, bytes);
  const auto size = ipc::header_size(ipc::Framing::ipc07);
  if (!header || header->length != bytes.size() - size) return std::nullopt;
  return ipc::Frame{header->type, header->user_type, bytes.substr(size), bytes};
}

ipc::Result<std::string> hello_frame(const ipc::Hop& hop) {
  auto frame = TRY(ipc::encode_hop(hop));
  if (frame.size() > longest_datagram - header_size)
    return ipc::fail(ipc::Word::bad_request, "the claims make the hop longer than the " +
                                                 std::to_string(longest_datagram - header_size) +
                                                 " bytes that one datagram carries");
  return frame;
}

std::string refusal_frame(const ipc::Error& failure) {
  // Beside the sentence: our header, the frame's, the longest word and ": ".
  constexpr std::size_t room = shortest_hello - header_size - 32;
  ipc::Error cut = failure;
  cut.text = ipc::printable(cut.text, room);
  return ipc::hop_refusal(cut);
}
}  // namespace udpd
