// "Did you mean ...?": the known word closest to a mistyped one.
#pragma once
#include <span>
#include <string_view>

namespace ipc {

/// The one of `known` that differs from `word` by at most two edits (one for words under four bytes); empty
/// when none does.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);

}  // namespace ipc
