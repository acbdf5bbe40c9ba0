// Base64 (RFC 4648, section 4): how datagrams travel inside JSON.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace ipc {

std::string base64_encode(std::string_view bytes);
/// Nothing for text that is not exactly what `base64_encode` writes (padding, no blanks, no stray bits).
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace ipc
