// The hop: the exchange by which a dialling host names the service it wants (docs/protocol.md, "The hop").
// Words and bytes; `HopReader` reads from a stream exactly what belongs to it.
#pragma once
#include <string>
#include <string_view>

#include "ipc/frame.hh"
#include "ipc/stream.hh"

namespace ipc {

/// Bounds of one hop frame's payload and of the routers it may pass.
constexpr std::size_t largest_hop = 4096;
constexpr int most_hops = 8;

struct Hop {
  std::string service{};
  int hops = 1;  ///< routers passed, this one included
  Framing framing = Framing::bytes;
  std::string claims{};  ///< JSON text of an object, or empty
};

/// The dialler's frame (user type 4). BAD_REQUEST when it would exceed 4096 bytes.
Result<std::string> encode_hop(const Hop& hop);
/// Both user types. BAD_REQUEST for what is none, LOOP for more than 8 hops.
Result<Hop> decode_hop(const Frame& frame);

/// The answer's frame.
std::string hop_ok();
/// `WORD: sentence`, made printable and cut to fit.
std::string hop_refusal(const Error& failure);
/// What the far side `host` said: nothing for OK; its word and `HOST says: sentence` with `far` set for a
/// refusal; UNREACHABLE for anything else, since no router of ours answers there.
Result<> decode_hop_answer(const Frame& frame, std::string_view host);

/// Reads one frame of at most 4096 bytes and not a byte more.
class HopReader {
 public:
  /// `least` bytes may be asked for at once although the header was not seen: 8 in answers, all of which are
  /// at least that long; else 6.
  explicit HopReader(std::size_t least = header_size(Framing::ipc07)) : least_{least} {}
  /// `done`: `frame()` is there; `again`: the stream has no more now. BAD_REQUEST for too much,
  /// UNREACHABLE when the stream ended first.
  Result<Io> read(Stream& stream);
  /// Lives as long as the reader.
  const Frame& frame() const { return frame_; }

 private:
  FrameReader reader_{Framing::ipc07, largest_hop};
  std::size_t least_;
  Frame frame_{};
};

}  // namespace ipc
