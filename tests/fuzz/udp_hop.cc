// The hop's datagrams: what is accepted can be said again, and nothing said is longer than it may be.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "udpd/hop_datagram.hh"

namespace {
void check(bool so) {
  if (!so) std::abort();
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  const auto first = udpd::decode(bytes);
  if (!first) return 0;
  check(udpd::has_magic(bytes) && size <= udpd::longest_datagram);
  const auto said = udpd::encode(*first);
  check(said.size() <= std::max(size, udpd::shortest_hello));
  const auto again = udpd::decode(said);
  check(again && again->kind == first->kind && again->nonce == first->nonce);
  check(again->cookie == first->cookie && again->frame == first->frame);
  const auto frame = udpd::whole_frame(first->frame);
  if (!frame) return 0;
  check(frame->whole == first->frame);
  if (const auto hop = ipc::decode_hop(*frame); !hop)
    check(udpd::refusal_frame(hop.error()).size() + udpd::header_size <= udpd::shortest_hello);
  if (const auto answer = ipc::decode_hop_answer(*frame, "far"); !answer)
    check(udpd::refusal_frame(answer.error()).size() + udpd::header_size <= udpd::shortest_hello);
  return 0;
}
