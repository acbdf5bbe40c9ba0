// What to write instead of a word that nothing knows.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "ipc/nearest.hh"

namespace plumberd {
using ipc::nearest;

/// `; did you mean "X"?`, or `; known are A, B, C` when nothing is near.
std::string remedy_for(std::string_view word, std::span<const std::string_view> known);

}  // namespace plumberd
