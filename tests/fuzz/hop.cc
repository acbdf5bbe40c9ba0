// The hop, both directions of it: what is accepted can be said again, what is refused can be shown.
#include "ipc/hop.hh"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ipc/name.hh"
#include "tests/fuzz/fuzz.hh"

namespace {
using namespace ipc;

void check(bool so) {
  if (!so) std::abort();
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; });
}

Frame frame_of(FrameReader& reader, std::string_view bytes) {
  reader.feed(bytes);
  const auto next = reader.next();
  return next && *next ? **next : Frame{};
}

void as_dialler(const Frame& frame) {
  const auto hop = decode_hop(frame);
  if (!hop) return;
  check(check_service_name(hop->service).has_value());
  check(hop->hops >= 1 && hop->hops <= most_hops);
  const auto again = encode_hop(*hop);
  if (!again) return;  // claims that grew when they were escaped
  FrameReader reader{Framing::ipc07, largest_hop};
  const auto same = decode_hop(frame_of(reader, *again));
  check(same && same->service == hop->service && same->hops == hop->hops && same->framing == hop->framing);
}

void as_answer(const Frame& frame) {
  const auto accepted = decode_hop_answer(frame, "far");
  if (accepted) return check(frame.payload == "OK");
  check(is_printable(accepted.error().text));
  if (!accepted.error().far) return check(accepted.error().word == Word::unreachable);
  FrameReader reader{Framing::ipc07, largest_hop};
  const auto passed_on = decode_hop_answer(frame_of(reader, hop_refusal(accepted.error())), "near");
  check(!passed_on && passed_on.error().word == accepted.error().word);
}
}  // namespace

FUZZ_TARGET(hop)

int fuzz_hop(const std::uint8_t* data, std::size_t size) {
  FrameReader reader{Framing::ipc07, largest_hop};
  const auto frame = frame_of(reader, {reinterpret_cast<const char*>(data), size});
  as_dialler(frame);
  as_answer(frame);
  return 0;
}
