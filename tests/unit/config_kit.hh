// How tests of configurations load them, and what they expect to be told.
#pragma once
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "plumberd/config.hh"

namespace config_kit {
using namespace plumberd;
using Kind = Arguments::Item::Kind;

inline Loaded loaded(std::string_view toml, const Arguments& arguments = {},
                     Strictness how = Strictness::check) {
  return load_text(toml, "p.toml", arguments, how);
}

inline std::string printed(const Loaded& result) {
  std::string text;
  for (const auto& d : result.diagnostics) text += d.print() + "\n";
  return text;
}

inline std::shared_ptr<Config> good(std::string_view toml, const Arguments& arguments = {}) {
  auto result = loaded(toml, arguments);
  cr_assert(result.config != nullptr, "%s", printed(result).c_str());
  return result.config;
}

/// The configuration must be refused, and what is printed must contain all of `parts`.
inline void refused(std::string_view toml, std::initializer_list<std::string_view> parts,
                    const Arguments& arguments = {}) {
  const auto result = loaded(toml, arguments);
  const auto text = printed(result);
  cr_expect(result.config == nullptr, "accepted: %s", std::string(toml).c_str());
  for (const auto part : parts)
    cr_expect(text.find(part) != text.npos, "no \"%s\" in:\n%s", std::string(part).c_str(), text.c_str());
}

inline Arguments arguments(std::initializer_list<Arguments::Item> items) { return {.items = items}; }

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/plumberd-config-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string write(const std::string& name, std::string_view text, mode_t mode = 0600) const {
    const auto file = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << text;
    ::chmod(file.c_str(), mode);
    return file;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};
}  // namespace config_kit
