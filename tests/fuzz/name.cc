#include "ipc/name.hh"

#include <algorithm>
#include <string_view>

#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(name)

namespace {
void check_name(std::string_view name) {
  if (!ipc::check_service_name(name)) return;
  fuzz::require(!name.empty() && name.size() <= 100, "a name has 1 to 100 bytes");
  fuzz::require(name.find('/') == name.npos && name.find("..") == name.npos, "a name stays in its directory");
  fuzz::require(name[0] != '-' && name[0] != '.', "a name is neither an option nor hidden");
  fuzz::require(!name.ends_with(".lock") && name != "plumberd" && name != "network" && name != "ipc",
                "a name is not reserved");
  fuzz::require(ipc::pattern_covers("*", name) && ipc::pattern_covers(name, name),
                "covered by itself and by *");
}

void check_printable(std::string_view input) {
  const auto shown = ipc::printable(input);
  fuzz::require(shown.size() <= 256, "shown text is short");
  fuzz::require(std::ranges::all_of(shown, [](char c) { return c >= 0x20 && c < 0x7f; }), "and printable");
}
}  // namespace

/// The first line is a name, the rest IPC_NETWORKD.
int fuzz_name(const std::uint8_t* data, std::size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  const auto end = std::min(input.find('\n'), input.size());
  const auto name = input.substr(0, end);
  const auto networkd = input.substr(std::min(end + 1, input.size()));
  check_name(name);
  check_printable(input);
  const auto target = ipc::directive_target(networkd, name);
  if (!target) return 0;
  fuzz::require(target->find_first_of(" \t;") == std::string::npos, "a target is one word");
  const auto own = ipc::directives_of(networkd, name);
  fuzz::require(own.size() <= networkd.size(), "a part is not longer than the whole");
  const auto of_own = ipc::directive_target(own, name);
  fuzz::require(of_own && *of_own == *target, "the directives of the name alone say the same");
  return 0;
}
