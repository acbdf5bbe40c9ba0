#include "plumberd/lookup_door.hh"

#include <string_view>

#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(lookup)

namespace {
/// Takes all messages out of `bytes`, fed in parts of `step` bytes.
std::string reassembled(ipc::Framing framing, std::string_view bytes, std::size_t step) {
  ipc::FrameReader reader{framing, 1000};
  std::string all;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    reader.feed(bytes.substr(at, step));
    for (;;) {
      const auto next = reader.next();
      if (!next) return all + "!";
      if (!*next) break;
      fuzz::require((*next)->payload.size() <= 1000, "no payload is longer than allowed");
      all.append((*next)->whole).append("|");
    }
  }
  return all;
}

void check(std::string_view payload, ipc::Framing framing) {
  const auto lookup = plumberd::parse_lookup(payload, framing);
  if (!lookup)
    return fuzz::require(lookup.error().word == ipc::Word::bad_request, "what is no lookup is a bad request");
  fuzz::require(lookup->service.find_first_of(std::string_view{";\0", 2}) == std::string::npos,
                "a name ends at ';'");
  fuzz::require(lookup->networkd.find('\0') == std::string::npos, "no NUL gets through");
  fuzz::require(lookup->service.size() + lookup->networkd.size() < payload.size(), "nothing is made up");
}
}  // namespace

/// The first byte chooses the framing and the fragmentation.
int fuzz_lookup(const std::uint8_t* data, std::size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  if (input.empty()) return 0;
  const auto framing = (input[0] & 1) != 0 ? ipc::Framing::ipc1 : ipc::Framing::ipc07;
  const std::size_t step = 1 + (static_cast<unsigned char>(input[0]) >> 1);
  const auto bytes = input.substr(1);
  check(bytes, framing);
  fuzz::require(reassembled(framing, bytes, step) == reassembled(framing, bytes, bytes.size() + 1),
                "messages do not depend on how they were cut");
  return 0;
}
