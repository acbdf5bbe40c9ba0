// Names of users and groups to numbers, each looked up once.
#pragma once
#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumberd {

class Principals {
 public:
  /// Numbers are taken as they are, names looked up; nothing for those that do not exist.
  std::optional<uid_t> user(std::string_view name);
  std::optional<gid_t> group(std::string_view name);
  /// All groups of a user that exists, sorted; for a bare number without an entry: none.
  std::vector<gid_t> groups_of(std::string_view user);
  /// Whether some name was asked for that does not exist, or not at this time.
  bool any_unknown() const;

 private:
  std::map<std::string, std::optional<uid_t>, std::less<>> users_{};
  std::map<std::string, std::optional<gid_t>, std::less<>> groups_{};
};

/// CAP_SYS_PTRACE: whether the executables of other users' processes can be read; a policy that judges them
/// where they cannot deserves the note.
bool may_read_others_exe();
constexpr std::string_view exe_note =
    "exe: of other users' processes cannot be read without CAP_SYS_PTRACE: such rules never allow and always "
    "deny";

}  // namespace plumberd
