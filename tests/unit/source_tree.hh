// Where the sources lie, seen from the test program: its data files are part of them.
#pragma once
#include <criterion/criterion.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace testing {

/// The directory that holds tests/ and config/: above the program, wherever its variant was built.
inline std::filesystem::path source_tree() {
  for (auto path = std::filesystem::canonical("/proc/self/exe"); path.has_relative_path();
       path = path.parent_path())
    if (std::filesystem::exists(path / "tests/policy")) return path;
  cr_assert_fail("the test program does not lie below the source tree");
  return {};
}

inline std::string contents(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  cr_assert(stream.good(), "cannot read %s", file.c_str());
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

inline std::vector<std::filesystem::path> sorted_entries(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> entries;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// The lines of a file without comments (# at the start) and empty ones.
inline std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::istringstream text{contents(file)};
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);)
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  return lines;
}

}  // namespace testing
