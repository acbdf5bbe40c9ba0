#include "ipc/uri.hh"

#include <algorithm>
#include <string_view>

#include "ipc/name.hh"
#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(uri)

namespace {
bool is_clean(std::string_view text) {
  return std::ranges::none_of(text, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

void check_parts(const ipc::Uri& uri) {
  fuzz::require(uri.service.empty() || ipc::check_service_name(uri.service).has_value(),
                "a service is a service name");
  for (const auto* part : {&uri.scheme, &uri.user, &uri.secret, &uri.host, &uri.path})
    fuzz::require(is_clean(*part), "no control bytes in any part");
  for (const auto* part : {&uri.scheme, &uri.user, &uri.host})
    fuzz::require(part->find('/') == std::string::npos, "no '/' in a part that has none");
  fuzz::require(uri.path.size() <= 107, "a path fits sun_path");
  fuzz::require(uri.path.find("/../") == std::string::npos && !uri.path.ends_with("/.."),
                "a path does not climb");
}
}  // namespace

int fuzz_uri(const std::uint8_t* data, std::size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  const auto uri = ipc::parse_uri(input);
  const auto masked = ipc::mask_secrets(input);
  if (!uri) {
    fuzz::require(!uri.error().text.empty(), "an error has a sentence");
    return 0;
  }
  check_parts(*uri);
  const auto shown = ipc::to_string(*uri);
  if (!uri->secret.empty())
    fuzz::require(shown.find(":***@") != std::string::npos, "a secret is shown as ***");
  fuzz::require(masked.size() <= input.size() + 4, "masking does not grow the text");
  const auto again = ipc::parse_uri(uri->raw);
  fuzz::require(again && again->host == uri->host && again->port == uri->port, "the same when parsed again");
  fuzz::require(again->service == uri->service && again->secret == uri->secret, "in all its parts");
  return 0;
}
