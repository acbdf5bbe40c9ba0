// The pure parts of udpd: datagrams, cookies, memory.
#include <criterion/criterion.h>

#include "udpd/cookie.hh"
#include "udpd/hop_datagram.hh"
#include "udpd/memory.hh"

using namespace udpd;
using std::string_literals::operator""s;

namespace {
std::string text_of(const ipc::Result<std::string>& text) {
  cr_assert(text);
  return *text;
}

constexpr Nonce nonce{1, 2, 3, 4, 5, 6, 7, 8};
const Peer peer{*ipc::parse_address("192.0.2.7"), 4711};
}  // namespace

Test(hop_datagram, the_hello_is_the_one_of_the_protocol_document) {
  const auto frame = text_of(hello_frame({.service = "pong"}));
  const auto bytes = encode({.kind = Kind::hello, .nonce = nonce, .frame = frame});
  const auto head = "\x9fplumbu\x01\x01\x02\x03\x04\x05\x06\x07\x08\x01\x00\x00\x27"s +
                    std::string(16, '\0') +
                    "\x03\x00\x00\x00\x21\x04{\"v\":1,\"service\":\"pong\",\"hops\":1}"s;
  cr_assert(bytes == head + std::string(437, '\0'));
}

Test(hop_datagram, what_is_encoded_is_decoded) {
  const auto frame = ipc::hop_ok();
  const auto bytes = encode({.kind = Kind::answer, .nonce = nonce, .cookie = {9}, .frame = frame});
  const auto back = decode(bytes);
  cr_assert(back);
  cr_assert(back->kind == Kind::answer && back->nonce == nonce && back->frame == frame);
  cr_assert(back->has_cookie());
  cr_assert_eq(bytes.size(), 44);
}

Test(hop_datagram, what_is_cut_foreign_or_too_long_is_none) {
  const auto bytes = encode({.kind = Kind::answer, .nonce = nonce, .frame = ipc::hop_ok()});
  for (std::size_t size = 0; size < bytes.size(); ++size) cr_assert_not(decode(bytes.substr(0, size)));
  cr_assert(decode(bytes + std::string(longest_datagram - bytes.size(), 'x')));
  cr_assert_not(decode(bytes + std::string(longest_datagram - bytes.size() + 1, 'x')));
  auto other = bytes;
  other[7] = 2;  // of another version
  cr_assert_not(decode(other));
  for (const char kind : {'\0', '\x06', '\xff'}) {
    other = bytes;
    other[16] = kind;
    cr_assert_not(decode(other));
  }
}

Test(hop_datagram, no_answer_is_longer_than_the_shortest_hello) {
  for (const auto& sentence : {std::string(5000, 'x'), std::string(5000, '\x01'), "short"s}) {
    const auto frame = refusal_frame({.word = ipc::Word::unknown_service, .text = sentence});
    const auto bytes = encode({.kind = Kind::answer, .nonce = nonce, .frame = frame});
    cr_assert_leq(bytes.size(), shortest_hello);
    const auto parsed = whole_frame(frame);
    cr_assert(parsed);
    const auto told = ipc::decode_hop_answer(*parsed, "there");
    cr_assert(!told && told.error().word == ipc::Word::unknown_service);
  }
}

Test(hop_datagram, claims_that_no_datagram_carries_are_refused_here) {
  const auto frame = hello_frame({.service = "pong", .claims = "{\"x\":\"" + std::string(1200, 'y') + "\"}"});
  cr_assert(!frame && frame.error().word == ipc::Word::bad_request);
}

Test(cookies, are_good_for_whom_and_what_they_were_made_in_their_epoch_and_the_next) {
  auto jar = CookieJar::open();
  cr_assert(jar);
  constexpr std::uint64_t now = 20 * CookieJar::epoch_ms + 5;
  const auto cookie = jar->make(peer, nonce, "pong", now);
  cr_assert(jar->is_good(cookie, peer, nonce, "pong", now));
  cr_assert(jar->is_good(cookie, peer, nonce, "pong", now + CookieJar::epoch_ms));
  cr_assert_not(jar->is_good(cookie, peer, nonce, "pong", now + 2 * CookieJar::epoch_ms));
  cr_assert_not(jar->is_good(cookie, peer, nonce, "pong", now - CookieJar::epoch_ms));
  cr_assert_not(jar->is_good(cookie, {peer.address, 4712}, nonce, "pong", now));
  cr_assert_not(jar->is_good(cookie, {*ipc::parse_address("192.0.2.8"), 4711}, nonce, "pong", now));
  cr_assert_not(jar->is_good(cookie, peer, {1}, "pong", now));
  cr_assert_not(jar->is_good(cookie, peer, nonce, "ping", now));
  for (std::size_t i = 0; i < cookie.size(); ++i) {
    auto forged = cookie;
    forged[i] ^= 1;
    cr_assert_not(jar->is_good(forged, peer, nonce, "pong", now));
  }
  cr_assert_not(CookieJar::open()->is_good(cookie, peer, nonce, "pong", now));
}

Test(memory, forgets_by_age_and_by_number) {
  Memory<int, int, std::hash<int>> memory{100, 3};
  memory.put(1, 10, 0);
  memory.put(2, 20, 50);
  cr_assert(memory.find(1, 99) != nullptr && *memory.find(1, 99) == 10);
  cr_assert_null(memory.find(1, 100));
  cr_assert_not_null(memory.find(2, 100));
  for (int i = 3; i < 6; ++i) memory.put(i, i, 110);
  cr_assert_null(memory.find(2, 110));
  cr_assert_eq(memory.size(), 3);
}

Test(memory, what_is_put_again_lives_from_then) {
  Memory<int, int, std::hash<int>> memory{100, 3};
  memory.put(1, 10, 0);
  memory.put(1, 11, 60);
  cr_assert(memory.find(1, 120) != nullptr && *memory.find(1, 120) == 11);
  cr_assert_null(memory.find(1, 160));
}

Test(prefix, is_the_network_that_shares_limits) {
  const auto same = [](const char* a, const char* b) {
    return prefix_of(*ipc::parse_address(a)) == prefix_of(*ipc::parse_address(b));
  };
  cr_assert(same("192.0.2.7", "192.0.2.200"));
  cr_assert_not(same("192.0.2.7", "192.0.3.7"));
  cr_assert(same("2001:db8:0:100::1", "2001:db8:0:1ff:ffff::2"));
  cr_assert_not(same("2001:db8:0:100::1", "2001:db8:0:200::1"));
}
