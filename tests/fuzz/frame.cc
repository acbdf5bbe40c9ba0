// FrameReader: however the bytes arrive the same messages come out, each can be said back, and nothing is
// held but what arrived. The first byte chooses the framing and the size of the pieces.
#include "ipc/frame.hh"
#include "tests/fuzz/fuzz.hh"

#include <cstdint>
#include <cstdlib>
#include <vector>

namespace {
using namespace ipc;

void check(bool so) {
  if (!so) std::abort();
}

struct Outcome {
  std::vector<std::string> messages;
  std::size_t left = 0;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

void check_said_back(Framing framing, const Frame& frame) {
  check(frame.whole.size() == header_size(framing) + frame.payload.size());
  const auto again = framing == Framing::ipc1 ? frame_1(frame.payload)
                                              : frame_07(frame.type, frame.user_type, frame.payload);
  check(again == frame.whole);
}

/// Takes every whole message out; false when the stream cannot be trusted any more.
bool take_all(Framing framing, FrameReader& reader, Outcome& outcome) {
  for (;;) {
    const auto next = reader.next();
    if (!next) return false;
    if (!*next) return true;
    check_said_back(framing, **next);
    outcome.messages.emplace_back((*next)->whole);
  }
}

Outcome read(Framing framing, std::string_view bytes, std::size_t piece, std::size_t largest) {
  FrameReader reader{framing, largest};
  Outcome outcome;
  std::size_t fed = 0, taken = 0;
  while (fed < bytes.size() && !outcome.failed) {
    const auto part = bytes.substr(fed, piece);
    reader.feed(part);
    fed += part.size();
    outcome.failed = !take_all(framing, reader, outcome);
    taken = 0;
    for (const auto& message : outcome.messages) taken += message.size();
    check(reader.buffered() == fed - taken);
    check(outcome.failed || reader.missing() > 0);
  }
  outcome.left = outcome.failed ? 0 : fed - taken;
  return outcome;
}
}  // namespace

FUZZ_TARGET(frame)

int fuzz_frame(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto framing = (data[0] & 1) != 0 ? Framing::ipc1 : Framing::ipc07;
  const auto largest = (data[0] & 2) != 0 ? std::size_t{16} : largest_payload(framing);
  const std::size_t piece = 1 + (data[0] >> 2);
  const std::string_view bytes{reinterpret_cast<const char*>(data + 1), size - 1};
  check(read(framing, bytes, piece, largest) == read(framing, bytes, bytes.size() + 1, largest));
  return 0;
}
