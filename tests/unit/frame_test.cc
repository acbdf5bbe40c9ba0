#include "ipc/frame.hh"

#include <criterion/criterion.h>

#include <vector>

using namespace ipc;

namespace {
std::string bytes_of(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

/// Everything that comes out when `wire` arrives in pieces of `piece` bytes.
std::vector<std::string> read_in_pieces(Framing framing, std::string_view wire, std::size_t piece) {
  FrameReader reader{framing};
  std::vector<std::string> messages;
  for (; !wire.empty(); wire.remove_prefix(std::min(piece, wire.size()))) {
    reader.feed(wire.substr(0, piece));
    for (auto next = reader.next(); next && *next; next = reader.next())
      messages.emplace_back((*next)->whole);
  }
  return messages;
}
}  // namespace

Test(frame, vectors_of_existing_programs_are_encoded_to_the_byte) {
  cr_assert(frame_07(FrameType::data, 42, std::string_view{"hello\0", 6}) ==
            bytes_of("02000000062a68656c6c6f00"));
  cr_assert(frame_07(FrameType::data, 42, "") == bytes_of("02000000002a"));
  cr_assert(frame_07(FrameType::server_close, 0, "") == bytes_of("000000000000"));
  cr_assert(frame_07(200, 201, "abc") == bytes_of("c800000003c9616263"));
  cr_assert(frame_07(FrameType::lookup, 3, "pong;pong unix:///pong2") ==
            bytes_of("030000001703706f6e673b706f6e6720756e69783a2f2f2f706f6e6732"));
  cr_assert(frame_1("hello") == bytes_of("0000000568656c6c6f"));
}

Test(frame, a_header_says_type_user_type_and_length) {
  const auto header = decode_header(Framing::ipc07, bytes_of("c800000003c9"));
  cr_assert(header.has_value());
  cr_assert_eq(header->type, 200);
  cr_assert_eq(header->user_type, 201);
  cr_assert_eq(header->length, 3);
  cr_assert_not(decode_header(Framing::ipc07, bytes_of("c800000003")).has_value());
  cr_assert_eq(decode_header(Framing::ipc1, bytes_of("fffffffe"))->length, 0xfffffffeU);
}

Test(frame, messages_survive_any_fragmentation) {
  const std::string wire =
      frame_07(200, 201, "abc") + frame_07(2, 0, "") + frame_07(2, 7, std::string(700, 'x'));
  for (std::size_t piece = 1; piece <= wire.size(); ++piece) {
    const auto messages = read_in_pieces(Framing::ipc07, wire, piece);
    cr_assert_eq(messages.size(), 3, "pieces of %zu", piece);
    cr_assert(messages[0] + messages[1] + messages[2] == wire);
  }
  const std::string wire_1 = frame_1("abc") + frame_1("") + frame_1("d");
  for (std::size_t piece = 1; piece <= wire_1.size(); ++piece)
    cr_assert_eq(read_in_pieces(Framing::ipc1, wire_1, piece).size(), 3);
}

Test(frame, what_a_message_says_is_found_in_it) {
  FrameReader reader{Framing::ipc07};
  reader.feed(frame_07(3, 4, "payload") + "\x01");
  const auto next = reader.next();
  cr_assert(next && *next);
  cr_assert_eq((*next)->type, 3);
  cr_assert_eq((*next)->user_type, 4);
  cr_assert((*next)->payload == "payload");
  cr_assert_eq(reader.buffered(), 1);
  const auto rest = reader.next();
  cr_assert(rest && !*rest);
}

Test(frame, a_length_that_is_too_large_is_refused_before_its_bytes_come) {
  for (const auto framing : {Framing::ipc07, Framing::ipc1}) {
    FrameReader reader{framing};
    reader.feed(framing == Framing::ipc07 ? bytes_of("02001e847b00") : bytes_of("00018699"));
    const auto next = reader.next();
    cr_assert_not(next.has_value());
    cr_assert_eq(next.error().word, Word::bad_request);
    cr_assert_eq(reader.missing(), 0);
  }
}

Test(frame, the_largest_payload_is_accepted) {
  FrameReader reader{Framing::ipc1};
  reader.feed(frame_1(std::string(largest_payload(Framing::ipc1), 'y')));
  const auto next = reader.next();
  cr_assert(next && *next);
  cr_assert_eq((*next)->payload.size(), 99'992);
}

Test(frame, missing_never_reaches_behind_the_message_in_hand) {
  FrameReader reader{Framing::ipc07, 4096};
  std::string wire = frame_07(3, 4, "exactly this") + "not this";
  std::string_view left = wire;
  while (reader.missing() > 0) {
    const auto wanted = reader.missing();
    reader.feed(left.substr(0, wanted));
    left.remove_prefix(wanted);
  }
  cr_assert(left == "not this");
  const auto next = reader.next();
  cr_assert(next && *next && (*next)->payload == "exactly this");
}

Test(frame, framings_have_names) {
  for (const auto framing : {Framing::bytes, Framing::ipc07, Framing::ipc1})
    cr_assert(framing_from(to_string(framing)) == framing);
  cr_assert_not(framing_from("ipc2").has_value());
}
