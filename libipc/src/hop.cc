#include "ipc/hop.hh"

#include <algorithm>
#include <array>

#include "ipc/json.hh"
#include "ipc/name.hh"

namespace ipc {
namespace {
constexpr std::uint8_t bare_name = 3;
constexpr std::uint8_t as_json = 4;

Result<Hop> checked(Hop hop) {
  TRY(check_service_name(hop.service));
  if (hop.hops > most_hops)
    return fail(Word::loop, "the request passed more than " + std::to_string(most_hops) + " routers");
  return hop;
}

// Claims travel inside other messages, where all levels together are bounded (docs/protocol.md, "Messages").
constexpr int deepest_claims = 8;

bool is_deeper(JsonView value, int levels) {
  if (!value.is_object() && !value.is_array()) return false;
  if (levels == 0) return true;
  return std::ranges::any_of(value.begin(), value.end(),
                             [&](JsonView inner) { return is_deeper(inner, levels - 1); });
}

Result<Hop> decode_json(std::string_view payload) {
  const auto document = TRY(JsonDocument::parse(payload));
  const auto root = document.root();
  if (root["v"].integer_or(0) != 1) return fail(Word::bad_request, "the hop is not of version 1");
  const auto framing = framing_from(root["framing"].exists() ? root["framing"].string_or("") : "bytes");
  if (!framing) return fail(Word::bad_request, "the hop asks for a framing that is not known");
  const auto hops = root["hops"].integer();
  if (!hops || *hops < 1) return fail(Word::bad_request, "the hop does not count its routers");
  Hop hop{.service = std::string(root["service"].string_or("")),
          .hops = static_cast<int>(std::min<std::int64_t>(*hops, most_hops + 1)),
          .framing = *framing};
  if (is_deeper(root["claims"], deepest_claims))
    return fail(Word::bad_request, "the claims are nested deeper than 8 levels");
  if (root["claims"].is_object()) hop.claims = root["claims"].text();
  return checked(std::move(hop));
}

bool is_type(const Frame& frame, FrameType type) { return frame.type == static_cast<std::uint8_t>(type); }

std::unexpected<Error> no_router(std::string_view host) {
  return fail(Word::unreachable,
              std::string(host) + " answered the hop with something else: no router listens there");
}
}  // namespace

Result<std::string> encode_hop(const Hop& hop) {
  std::string text;
  JsonWriter writer{text};
  writer.object().add("v", std::int64_t{1}).add("service", hop.service).add("hops", std::int64_t{hop.hops});
  if (hop.framing != Framing::bytes) writer.add("framing", to_string(hop.framing));
  if (!hop.claims.empty()) writer.key("claims").raw(hop.claims);
  writer.end();
  if (text.size() > largest_hop)
    return fail(Word::bad_request, "the claims make the hop longer than 4096 bytes");
  return frame_07(FrameType::lookup, as_json, text);
}

Result<Hop> decode_hop(const Frame& frame) {
  if (!is_type(frame, FrameType::lookup)) return fail(Word::bad_request, "the hop is no lookup frame");
  if (frame.user_type == as_json) return decode_json(frame.payload);
  if (frame.user_type == bare_name) return checked(Hop{.service = std::string(frame.payload)});
  return fail(Word::bad_request, "the hop's user type is neither 3 nor 4");
}

std::string hop_ok() { return frame_07(FrameType::data, 0, "OK"); }

std::string hop_refusal(const Error& failure) {
  auto text = std::string(to_string(failure.word)) + ": " + printable(failure.text, largest_hop / 2);
  return frame_07(FrameType::error, 0, text);
}

Result<> decode_hop_answer(const Frame& frame, std::string_view host) {
  if (is_type(frame, FrameType::data) && frame.payload == "OK") return {};
  const auto colon = frame.payload.find(": ");
  if (!is_type(frame, FrameType::error) || colon == std::string_view::npos) return no_router(host);
  const auto word = word_from(frame.payload.substr(0, colon));
  if (!word || *word == Word::no_router) return no_router(host);
  Error refusal{.word = *word};
  refusal.text = std::string(host) + " says: " + printable(frame.payload.substr(colon + 2));
  refusal.far = true;
  return std::unexpected(std::move(refusal));
}

Result<Io> HopReader::read(Stream& stream) {
  std::array<char, largest_hop> buffer;
  for (;;) {
    auto next = TRY(reader_.next());
    if (next) {
      frame_ = *next;
      return Io::done;
    }
    const auto wanted = std::max(reader_.missing(), reader_.buffered() == 0 ? least_ : 0);
    const auto got = stream.read(std::span{buffer}.first(std::min(wanted, buffer.size())));
    if (got.io == Io::again) return Io::again;
    if (got.io == Io::closed) return fail(Word::unreachable, "the connection ended within the hop");
    reader_.feed({buffer.data(), got.size});
  }
}
}  // namespace ipc
