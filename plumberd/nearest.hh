// "Did you mean ...?": the known word closest to a mistyped one.
#pragma once
#include <span>
#include <string>
#include <string_view>

namespace plumberd {

/// The one of `known` that differs from `word` by at most two edits (one for words under four bytes); empty
/// when none does.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known);
/// `; did you mean "X"?`, or `; known are A, B, C` when nothing is near.
std::string remedy_for(std::string_view word, std::span<const std::string_view> known);

}  // namespace plumberd
