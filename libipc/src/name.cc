#include "ipc/name.hh"

#include <algorithm>
#include <array>

namespace ipc {
namespace {
constexpr std::size_t longest_name = 100;
constexpr std::size_t longest_label = 63;
constexpr std::string_view blanks = " \t";

bool is_label_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

std::unexpected<Error> bad_name(std::string_view name, std::string_view why) {
  return fail(Word::bad_request, "service name \"" + printable(name, 64) + "\" " + std::string(why));
}

Result<> check_labels(std::string_view name) {
  std::size_t length = 0;
  for (const char c : name) {
    if (c != '.' && !is_label_byte(c)) return bad_name(name, "has a byte that is none of A-Z a-z 0-9 _ - .");
    length = c == '.' ? 0 : length + 1;
    if (length > longest_label) return bad_name(name, "has a label of more than 63 bytes");
  }
  const bool hollow = name.starts_with('.') || name.ends_with('.') || name.find("..") != name.npos;
  if (hollow) return bad_name(name, "has an empty label");
  return {};
}

bool is_reserved(std::string_view name) {
  constexpr std::array words{std::string_view{"plumberd"}, std::string_view{"network"},
                             std::string_view{"ipc"}};
  return std::ranges::find(words, name) != words.end() || name.starts_with("plumberd.") ||
         name.ends_with(".lock");
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(blanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

/// Calls `visit(whole, name, target)` for each non-empty directive until it returns true.
template <class Visit>
void each_directive(std::string_view networkd, Visit visit) {
  while (!networkd.empty()) {
    const auto end = std::min(networkd.find(';'), networkd.size());
    const auto whole = trimmed(networkd.substr(0, end));
    networkd.remove_prefix(std::min(end + 1, networkd.size()));
    const auto gap = std::min(whole.find_first_of(blanks), whole.size());
    if (!whole.empty() && visit(whole, whole.substr(0, gap), trimmed(whole.substr(gap)))) return;
  }
}
}  // namespace

Result<> check_service_name(std::string_view name) {
  if (name.empty()) return fail(Word::bad_request, "the service name is empty");
  if (name.size() > longest_name) return bad_name(name, "is longer than 100 bytes");
  if (name.starts_with('-')) return bad_name(name, "starts with '-'");
  if (is_reserved(name)) return bad_name(name, "is reserved");
  return check_labels(name);
}

Result<> check_service_pattern(std::string_view pattern) {
  if (pattern == "*") return {};
  return check_service_name(pattern.starts_with("*.") ? pattern.substr(2) : pattern);
}

bool pattern_covers(std::string_view pattern, std::string_view name) {
  if (pattern == "*") return true;
  if (!pattern.starts_with("*.")) return pattern == name;
  return name.size() >= pattern.size() && name.ends_with(pattern.substr(1));
}

Result<std::string> directive_target(std::string_view networkd, std::string_view service) {
  if (networkd.find('\0') != networkd.npos)
    return fail(Word::bad_request, "IPC_NETWORKD contains a NUL byte");
  std::string found;
  bool malformed = false;
  each_directive(networkd, [&](auto, std::string_view name, std::string_view target) {
    if (name != service) return false;
    malformed = target.empty() || target.find_first_of(blanks) != target.npos;
    found = target;
    return true;
  });
  if (malformed)
    return fail(Word::bad_request, "IPC_NETWORKD: the directive for " + printable(service, 100) +
                                       " must be \"SERVICE TARGET\": one name, blanks, one URI or name");
  return found;
}

std::string directives_of(std::string_view networkd, std::string_view service) {
  std::string own;
  each_directive(networkd, [&](std::string_view whole, std::string_view name, auto) {
    if (name == service) own += (own.empty() ? "" : ";") + std::string(whole);
    return false;
  });
  return own;
}

std::string printable(std::string_view foreign, std::size_t limit) {
  constexpr std::string_view hex = "0123456789abcdef";
  const auto is_plain = [](char c) { return c >= 0x20 && c < 0x7f; };
  if (foreign.size() <= limit && std::ranges::all_of(foreign, is_plain)) return std::string(foreign);
  std::string shown;
  for (const char c : foreign) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = is_plain(c);
    if (shown.size() + (plain ? 1 : 4) > limit) return shown;
    if (plain) {
      shown += c;
    } else {
      shown += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    }
  }
  return shown;
}
}  // namespace ipc
