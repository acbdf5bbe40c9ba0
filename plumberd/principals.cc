#include "plumberd/principals.hh"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace plumberd {
namespace {
std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value == 0xffffffff) return std::nullopt;
  return value;
}

/// Calls getpwnam_r or the like with a buffer that grows until the entry fits.
template <class Entry>
std::optional<Entry> entry(auto&& lookup, std::vector<char>& buffer) {
  constexpr std::size_t largest = std::size_t{1} << 20;  // a group may have many members
  for (buffer.resize(4096); buffer.size() <= largest; buffer.resize(buffer.size() * 4)) {
    Entry found{};
    Entry* result = nullptr;
    const int status = lookup(&found, buffer.data(), buffer.size(), &result);
    if (status == ERANGE || status == EINTR) continue;
    return result == nullptr ? std::nullopt : std::optional{found};
  }
  return std::nullopt;
}

std::optional<passwd> user_entry(const std::string& name, std::vector<char>& buffer) {
  return entry<passwd>([&](auto... rest) { return ::getpwnam_r(name.c_str(), rest...); }, buffer);
}
}  // namespace

std::optional<uid_t> Principals::user(std::string_view name) {
  if (const auto id = number(name)) return id;
  if (const auto known = users_.find(name); known != users_.end()) return known->second;
  std::vector<char> buffer;
  const auto found = user_entry(std::string(name), buffer);
  return users_[std::string(name)] = found ? std::optional{found->pw_uid} : std::nullopt;
}

std::optional<gid_t> Principals::group(std::string_view name) {
  if (const auto id = number(name)) return id;
  if (const auto known = groups_.find(name); known != groups_.end()) return known->second;
  std::vector<char> buffer;
  const std::string text{name};
  const auto found =
      entry<::group>([&](auto... rest) { return ::getgrnam_r(text.c_str(), rest...); }, buffer);
  return groups_[text] = found ? std::optional{found->gr_gid} : std::nullopt;
}

bool Principals::any_unknown() const {
  const auto unknown = [](const auto& entry) { return !entry.second.has_value(); };
  return std::ranges::any_of(users_, unknown) || std::ranges::any_of(groups_, unknown);
}

std::vector<gid_t> Principals::groups_of(std::string_view user) {
  std::vector<char> buffer;
  const auto id = number(user);
  const auto found = id ? entry<passwd>([&](auto... rest) { return ::getpwuid_r(*id, rest...); }, buffer)
                        : user_entry(std::string(user), buffer);
  if (!found) return {};
  std::vector<gid_t> groups(64);
  int count = static_cast<int>(groups.size());
  if (::getgrouplist(found->pw_name, found->pw_gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
    ::getgrouplist(found->pw_name, found->pw_gid, groups.data(), &count);
  }
  groups.resize(static_cast<std::size_t>(count));
  std::ranges::sort(groups);
  return groups;
}

bool may_read_others_exe() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  return ::syscall(SYS_capget, &header, sets.data()) == 0 &&
         (sets[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective & CAP_TO_MASK(CAP_SYS_PTRACE)) != 0;
}
}  // namespace plumberd
