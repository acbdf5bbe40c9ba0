// The libipc frame, 0.7 and v1 (docs/protocol.md, "The libipc frame"): encoding, decoding and bounded
// reassembly, no I/O.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ipc/error.hh"

namespace ipc {

/// How the bytes of a connection are cut into messages; the words of the hop and of `relay`.
enum class Framing : std::uint8_t { bytes, ipc07, ipc1 };
/// "bytes", "ipc07", "ipc1".
std::string_view to_string(Framing framing);
std::optional<Framing> framing_from(std::string_view text);

/// Values of `Frame::type` that 0.7 programs know; receivers of data do not look at it.
enum class FrameType : std::uint8_t { server_close = 0, error = 1, data = 2, lookup = 3 };

/// One message. The views live as long as the bytes they were decoded from.
struct Frame {
  std::uint8_t type = 0;       ///< 0.7 only
  std::uint8_t user_type = 0;  ///< 0.7 only
  std::string_view payload{};
  std::string_view whole{};  ///< header and payload, as they go over the wire
};

/// Bytes of the header: 6 in 0.7, 4 in v1.
constexpr std::size_t header_size(Framing framing) { return framing == Framing::ipc1 ? 4 : 6; }
/// The largest payload that existing programs accept: 1,999,994 in 0.7, 99,992 in v1.
constexpr std::size_t largest_payload(Framing framing) {
  return framing == Framing::ipc1 ? 99'992 : 1'999'994;
}

/// The six bytes before a 0.7 payload of `length` bytes.
std::array<char, 6> header_07(std::uint8_t type, std::uint8_t user_type, std::uint32_t length);
/// The four bytes before a v1 payload of `length` bytes.
std::array<char, 4> header_1(std::uint32_t length);
/// A whole 0.7 message. The payload must not exceed what the receiver takes.
std::string frame_07(std::uint8_t type, std::uint8_t user_type, std::string_view payload);
std::string frame_07(FrameType type, std::uint8_t user_type, std::string_view payload);
/// A whole v1 message.
std::string frame_1(std::string_view payload);

/// What the first `header_size(framing)` bytes of `bytes` announce.
struct FrameHeader {
  std::uint8_t type = 0;
  std::uint8_t user_type = 0;
  std::uint32_t length = 0;  ///< of the payload
};
/// Nothing when fewer bytes than a header are there. `framing` is not `bytes`.
std::optional<FrameHeader> decode_header(Framing framing, std::string_view bytes);

/// Puts messages together from bytes in any fragmentation and takes apart those that came together. Holds
/// what arrived and never reserves what a header merely claims.
class FrameReader {
 public:
  /// `framing` is ipc07 or ipc1. A header that announces more than `largest` bytes of payload is an error at
  /// once.
  explicit FrameReader(Framing framing) : FrameReader(framing, largest_payload(framing)) {}
  FrameReader(Framing framing, std::size_t largest) : framing_{framing}, largest_{largest} {}

  /// Appends bytes that arrived. Call `next` until it finds nothing before feeding more: that bounds the
  /// memory to one message and one read. Views from `next` end here.
  void feed(std::string_view bytes);
  /// The next whole message, nothing while it is incomplete, BAD_REQUEST when its header announces too much
  /// (and ever after: the stream cannot be trusted any more).
  Result<std::optional<Frame>> next();
  /// How many bytes to read so that nothing behind the message in hand is touched: the rest of its header,
  /// then the rest of its payload; 0 when it is whole. After an error: 0.
  std::size_t missing() const;
  /// Bytes held that `next` has not given out yet; more than 0 at the end of a stream means a cut message.
  std::size_t buffered() const { return bytes_.size() - begin_; }

 private:
  std::string_view unread() const { return std::string_view{bytes_}.substr(begin_); }
  void discard_used();

  Framing framing_;
  std::size_t largest_;
  std::string bytes_;
  std::size_t begin_ = 0;
};

}  // namespace ipc
