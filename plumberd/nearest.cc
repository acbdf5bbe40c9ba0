#include "plumberd/nearest.hh"

#include <algorithm>

namespace plumberd {
std::string remedy_for(std::string_view word, std::span<const std::string_view> known) {
  if (const auto near = nearest(word, known); !near.empty())
    return "; did you mean \"" + std::string(near) + "\"?";
  std::string list;
  for (auto candidate = known.begin(); candidate != known.end(); ++candidate)
    if (std::find(known.begin(), candidate, *candidate) == candidate)
      list += (list.empty() ? "" : ", ") + std::string(*candidate);
  return "; known are " + list;
}
}  // namespace plumberd
