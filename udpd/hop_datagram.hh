// The hop's datagrams (docs/protocol.md, "The hop in datagrams"): encoding and decoding, no I/O.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/hop.hh"

namespace udpd {

/// The first bytes of every hop datagram; the last of them is the version.
constexpr std::array<unsigned char, 8> magic{0x9f, 'p', 'l', 'u', 'm', 'b', 'u', 1};
constexpr std::size_t header_size = 36;
/// A hello is padded to this, and no answer is longer: nobody is sent more than he could have sent himself.
constexpr std::size_t shortest_hello = 512;
/// Fits the smallest IPv6 path (RFC 8200: 1280 bytes) without fragments.
constexpr std::size_t longest_datagram = 1200;

using Nonce = std::array<unsigned char, 8>;
using Cookie = std::array<unsigned char, 16>;

enum class Kind : std::uint8_t { hello = 1, cookie = 2, answer = 3, done = 4, gone = 5 };

/// `frame` lives as long as the bytes it was decoded from.
struct HopDatagram {
  Kind kind = Kind::hello;
  Nonce nonce{};
  Cookie cookie{};
  std::string_view frame{};
  bool has_cookie() const { return cookie != Cookie{}; }
};

/// Whether the bytes carry the magic: after the hop such datagrams are nobody's.
bool has_magic(std::string_view datagram);
/// Nothing for what is no hop datagram; padding is not looked at.
std::optional<HopDatagram> decode(std::string_view datagram);
/// The bytes; a hello is padded. The frame must leave the whole within `longest_datagram`.
std::string encode(const HopDatagram& datagram);
/// The one 0.7 frame that `bytes` are, to the byte; nothing for anything else.
std::optional<ipc::Frame> whole_frame(std::string_view bytes);

/// Frames as the datagrams' `frame`. BAD_REQUEST: the claims make it too long for a datagram.
ipc::Result<std::string> hello_frame(const ipc::Hop& hop);
/// A refusal, cut so that its datagram is no longer than the shortest hello.
std::string refusal_frame(const ipc::Error& failure);

}  // namespace udpd
