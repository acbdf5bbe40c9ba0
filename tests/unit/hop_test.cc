#include "ipc/hop.hh"

#include <criterion/criterion.h>

#include <array>

using namespace ipc;

namespace {
/// A stream that gives out `bytes` in pieces and then has no more; counts what was taken.
class Script final : public Stream {
 public:
  Script(std::string bytes, std::size_t piece) : bytes_{std::move(bytes)}, piece_{piece} {}
  int borrow() const override { return -1; }
  Transfer read(std::span<char> buffer) override {
    if (taken_ == bytes_.size()) return {.io = Io::closed};
    const auto size = std::min({buffer.size(), piece_, bytes_.size() - taken_});
    bytes_.copy(buffer.data(), size, taken_);
    taken_ += size;
    return {.size = size};
  }
  Transfer write(std::string_view bytes) override { return {.size = bytes.size()}; }
  Io finish() override { return Io::done; }
  std::size_t taken() const { return taken_; }

 private:
  std::string bytes_;
  std::size_t piece_;
  std::size_t taken_ = 0;
};

Frame frame(std::uint8_t type, std::uint8_t user_type, std::string_view payload) {
  return {.type = type, .user_type = user_type, .payload = payload};
}
Result<Hop> from_json(std::string_view payload) { return decode_hop(frame(3, 4, payload)); }
}  // namespace

Test(hop, the_example_of_the_protocol_document_is_met_to_the_byte) {
  const auto bytes = encode_hop({.service = "pong"});
  cr_assert(bytes.has_value());
  cr_assert(*bytes == std::string("\x03\0\0\0\x21\x04", 6) + R"({"v":1,"service":"pong","hops":1})");
  cr_assert(hop_ok() == std::string("\x02\0\0\0\x02\0OK", 8));
}

Test(hop, what_is_asked_is_what_arrives) {
  const auto hop =
      from_json(R"({"v":1,"service":"db.shop","hops":3,"framing":"ipc1","claims":{"a":"b"},"new":[1]})");
  cr_assert(hop.has_value());
  cr_assert(hop->service == "db.shop");
  cr_assert_eq(hop->hops, 3);
  cr_assert(hop->framing == Framing::ipc1);
  cr_assert(hop->claims == R"({"a":"b"})");
  const auto bare = decode_hop(frame(3, 3, "pong"));
  cr_assert(bare && bare->service == "pong" && bare->hops == 1 && bare->framing == Framing::bytes);
}

Test(hop, more_than_eight_routers_are_a_loop) {
  cr_assert(from_json(R"({"v":1,"service":"p","hops":8})").has_value());
  cr_assert(from_json(R"({"v":1,"service":"p","hops":9})").error().word == Word::loop);
  cr_assert(from_json(R"({"v":1,"service":"p","hops":99999999999})").error().word == Word::loop);
}

Test(hop, anything_else_is_a_bad_request) {
  constexpr std::array<std::string_view, 9> bad{"",
                                                "[]",
                                                R"({"v":1,"service":"pong"})",
                                                R"({"v":1,"service":"pong","hops":0})",
                                                R"({"v":1,"service":"pong","hops":"1"})",
                                                R"({"v":"1","service":"pong","hops":1})",
                                                R"({"v":1,"service":"a/b","hops":1})",
                                                R"({"v":1,"hops":1})",
                                                R"({"v":1,"service":"pong","hops":1,"framing":1})"};
  for (const auto text : bad) {
    const auto hop = from_json(text);
    cr_assert(!hop && hop.error().word == Word::bad_request, "%.*s", static_cast<int>(text.size()),
              text.data());
  }
  cr_assert_not(decode_hop(frame(3, 3, "plumberd")).has_value());
}

Test(hop, claims_are_nested_no_deeper_than_eight_levels) {
  const auto nested = [](int levels) {
    std::string claims;
    for (int i = 0; i < levels; ++i) claims += R"({"a":)";
    claims += "[]" + std::string(static_cast<std::size_t>(levels), '}');
    return from_json(R"({"v":1,"service":"p","hops":1,"claims":)" + claims + "}");
  };
  cr_assert(nested(7).has_value());
  cr_assert(nested(8).error().word == Word::bad_request);
}

Test(hop, claims_that_do_not_fit_are_refused_before_they_are_sent) {
  const auto claims = R"({"a":")" + std::string(5000, 'x') + R"("})";
  cr_assert(encode_hop({.service = "p", .claims = claims}).error().word == Word::bad_request);
}

Test(hop, a_refusal_is_cut_and_printable) {
  const auto bytes = hop_refusal({.word = Word::denied, .text = "\x1b[31m" + std::string(10'000, 'x')});
  cr_assert_leq(bytes.size(), header_size(Framing::ipc07) + largest_hop);
  cr_assert(bytes.find("DENIED: \\x1b[31mxxx") == 6);
}

Test(hop, the_far_sides_words_are_quoted_and_marked) {
  const auto refused = decode_hop_answer(frame(1, 0, "BUSY: later\n"), "h.example");
  cr_assert(refused.error().word == Word::busy);
  cr_assert(refused.error().text == "h.example says: later\\x0a");
  cr_assert(refused.error().far);
  const auto strange = decode_hop_answer(frame(1, 0, "GONE: away"), "h.example");
  cr_assert(strange.error().word == Word::unreachable);
  cr_assert_not(strange.error().far);
}

Test(hop, not_a_byte_behind_the_frame_is_read) {
  const auto answer = hop_ok();
  for (std::size_t piece = 1; piece < 20; ++piece) {
    Script stream{answer + "service speaks first", piece};
    HopReader reader{8};
    const auto io = reader.read(stream);
    cr_assert(io && *io == Io::done);
    cr_assert(reader.frame().payload == "OK");
    cr_assert_eq(stream.taken(), answer.size());
  }
}

Test(hop, a_stream_that_ends_early_or_claims_too_much_is_an_error) {
  Script ends{hop_ok().substr(0, 7), 20};
  cr_assert(HopReader{}.read(ends).error().word == Word::unreachable);
  Script boasts{std::string("\x03\0\0\x10\x01\x04", 6) + std::string(5000, 'x'), 5000};
  cr_assert(HopReader{}.read(boasts).error().word == Word::bad_request);
  cr_assert_eq(boasts.taken(), 6);
}
