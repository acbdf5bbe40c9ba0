#include "plumberd/config_files.hh"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "ipc/fd.hh"

namespace plumberd {
namespace {
using ipc::Result;
using ipc::Word;
constexpr std::size_t largest = std::size_t{64} << 20;

std::string directory() {
  if (::geteuid() == 0) return "/etc/plumberd";
  const char* config = ::secure_getenv("XDG_CONFIG_HOME");
  if (config != nullptr && config[0] == '/') return std::string(config) + "/plumberd";
  const char* home = ::secure_getenv("HOME");
  return home != nullptr && home[0] == '/' ? std::string(home) + "/.config/plumberd" : "";
}

std::vector<std::string> drop_ins(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> listing{::opendir(path.c_str()), ::closedir};
  std::vector<std::string> names;
  if (!listing) return names;
  while (const auto* entry = ::readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(".toml") && !name.starts_with('.')) names.push_back(path + "/" + std::string(name));
  }
  std::ranges::sort(names);
  return names;
}

/// /dev/null, by which people say "no file at all".
bool is_null_device(const struct stat& status) {
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

Result<> check_owner(const struct stat& status) {
  if (is_null_device(status)) return {};
  const bool file = S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode);
  if (!file) return ipc::fail(Word::bad_request, "is no regular file; name one");
  if (status.st_uid != 0 && status.st_uid != ::geteuid())
    return ipc::fail(Word::bad_request, "belongs to uid " + std::to_string(status.st_uid) +
                                            "; it must be root's or that of who runs plumberd: chown it");
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return ipc::fail(Word::bad_request, "can be written by its group or by others; chmod go-w it");
  return {};
}

Result<std::string> read_all(int fd) {
  std::string text;
  std::size_t size = 0;
  while (size <= largest) {
    text.resize(std::max<std::size_t>(size * 2, 65536));
    const auto count = ::read(fd, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ipc::fail(Word::bad_request, "cannot be read: " + ipc::errno_text(errno));
    if (count == 0) {
      text.resize(size);
      return text;
    }
    size += static_cast<std::size_t>(count);
  }
  return ipc::fail(Word::bad_request, "is larger than 64 MiB; merge rules, or move some to other files");
}
}  // namespace

std::vector<std::string> default_config_files() {
  std::vector<std::string> files;
  const auto place = directory();
  if (place.empty()) return files;
  const auto main_file = place + "/plumberd.toml";
  if (::access(main_file.c_str(), F_OK) == 0) files.push_back(main_file);
  for (auto& file : drop_ins(place + "/plumberd.d")) files.push_back(std::move(file));
  return files;
}

Result<std::string> read_config_file(const std::string& path) {
  const ipc::Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (!fd)
    return ipc::fail(Word::bad_request,
                     "cannot be opened: " + ipc::errno_text(errno) + "; correct its path or mode");
  struct stat status {};
  if (::fstat(fd.borrow(), &status) != 0) return ipc::fail_errno("fstat");
  TRY(check_owner(status));
  return read_all(fd.borrow());
}
}  // namespace plumberd
