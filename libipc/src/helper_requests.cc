// The router's requests, taken apart. The router is trusted to decide, not to be free of mistakes.
#include <algorithm>

#include "ipc/helper.hh"
#include "ipc/name.hh"

namespace ipc {
namespace {
constexpr std::int64_t longest_wait = 24LL * 3600 * 1000;
constexpr std::int64_t default_hop_timeout = 5000;

Milliseconds milliseconds(JsonView value, std::int64_t otherwise) {
  return Milliseconds{std::clamp<std::int64_t>(value.integer_or(otherwise), 1, longest_wait)};
}

Result<std::string> id_of(JsonView params) {
  const auto id = params["id"];
  if (!id.integer() && !id.is_string())
    return fail(Word::bad_request, "id is neither an integer nor a string");
  return id.text();
}

Result<Uri> uri_of(JsonView params) {
  const auto text = params["uri"].string();
  if (!text) return fail(Word::bad_request, "uri is missing or no string");
  return parse_uri(*text);
}

Result<std::vector<Address>> addresses_of(JsonView list) {
  std::vector<Address> addresses;
  if (!list.exists()) return addresses;
  if (!list.is_array() || list.size() == 0) return fail(Word::bad_request, "addresses is no array or empty");
  for (const auto element : list) {
    const auto address = parse_address(element.string_or(""));
    if (!address) return fail(Word::bad_request, "addresses holds something that is no address");
    addresses.push_back(*address);
  }
  return addresses;
}

Result<Share> share_of(JsonView share) {
  const auto word = share.exists() ? share.string_or("") : "no";
  if (word == "no") return Share::no;
  if (word == "first") return Share::first;
  if (word == "join") return Share::join;
  return fail(Word::bad_request, "share is neither first nor join");
}

Result<std::optional<Address>> source_of(JsonView settings) {
  const auto text = settings["source"].string();
  if (!text || text->empty()) return std::nullopt;
  const auto source = parse_address(*text);
  if (!source) return fail(Word::bad_request, "source is no address");
  return source;
}

Result<std::optional<Hop>> hop_of(JsonView params) {
  const auto service = params["service"];
  if (!service.exists()) return std::nullopt;
  Hop hop{.service = std::string(service.string_or(""))};
  TRY(check_service_name(hop.service));
  hop.hops = static_cast<int>(std::clamp<std::int64_t>(params["hops"].integer_or(1), 1, most_hops + 1));
  const auto framing = framing_from(params["framing"].exists() ? params["framing"].string_or("") : "bytes");
  if (!framing) return fail(Word::bad_request, "framing is none of bytes, ipc07, ipc1");
  hop.framing = *framing;
  if (params["claims"].is_object()) hop.claims = params["claims"].text();
  return hop;
}
}  // namespace

Result<DialRequest> parse_dial(Channel::Incoming& incoming) {
  const auto params = incoming.message.params;
  const auto settings = params["settings"];
  auto id = TRY(id_of(params));
  auto uri = TRY(uri_of(params));
  auto hop = TRY(hop_of(params));
  auto addresses = TRY(addresses_of(params["addresses"]));
  const auto source = TRY(source_of(settings));
  Fd fd;
  if (params["fd"].exists()) fd = TRY(incoming.take_fd(params["fd"]));
  return DialRequest{.incoming = std::move(incoming),
                     .id = std::move(id),
                     .uri = std::move(uri),
                     .hop = std::move(hop),
                     .addresses = std::move(addresses),
                     .judge = params["judge"].boolean_or(false),
                     .deadline = milliseconds(params["deadline_ms"], 10'000),
                     .hop_timeout = milliseconds(settings["hop_timeout_ms"], default_hop_timeout),
                     .source = source,
                     .settings = settings,
                     .fd = std::move(fd),
                     .ktls = params["ktls"].boolean_or(false),
                     .onward = params["onward"].boolean_or(false)};
}

Result<ListenRequest> parse_listen(Channel::Incoming& incoming) {
  const auto params = incoming.message.params;
  const auto settings = params["settings"];
  auto id = TRY(id_of(params));
  auto uri = TRY(uri_of(params));
  std::string service{params["service"].string_or("")};
  if (params["service"].exists() && service != metrics_service) TRY(check_service_name(service));
  const Milliseconds idle{std::clamp<std::int64_t>(settings["relay_idle_ms"].integer_or(0), 0, longest_wait)};
  const auto share = TRY(share_of(params["share"]));
  return ListenRequest{.incoming = std::move(incoming),
                       .id = std::move(id),
                       .uri = std::move(uri),
                       .service = std::move(service),
                       .hop_timeout = milliseconds(settings["hop_timeout_ms"], default_hop_timeout),
                       .relay_idle = idle,
                       .share = share,
                       .settings = settings};
}
}  // namespace ipc
