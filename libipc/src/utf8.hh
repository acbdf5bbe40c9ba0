// UTF-8 (RFC 3629), strictly: no surrogates, no overlong forms, nothing above U+10FFFF.
#pragma once
#include <cstdint>
#include <string_view>

namespace ipc {

bool is_utf8(std::string_view text);
/// Writes `code`, which is no surrogate and at most U+10FFFF; returns where it ends, at most 4 bytes on.
char* put_utf8(char* out, std::uint32_t code);

}  // namespace ipc
