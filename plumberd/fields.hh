// The members of one TOML table, taken one by one; what nobody took is an unknown key.
#pragma once
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/document.hh"

namespace plumberd {

class Fields {
 public:
  /// `table` is no table: reported, and there are no members. `title` is shown, as in "[limits]".
  Fields(const Document& document, const Node& table, std::string title, Report& report);

  /// The member, now a known key; null if it is absent.
  const Node* take(std::string_view key);
  // Each leaves `into` as it is when the key is absent or wrong; the latter is reported.
  void string(std::string_view key, std::string& into);
  void boolean(std::string_view key, bool& into);
  void integer(std::string_view key, unsigned& into, unsigned least, unsigned most);
  void duration(std::string_view key, std::chrono::milliseconds& into);
  void strings(std::string_view key, std::vector<std::string>& into, bool one_will_do = false);
  /// Reports all keys that were not taken.
  void finish();

  Place place(const Node& node) const { return {.source = document_.source, .offset = node.offset}; }
  /// Of the key, where the line can be searched for it.
  Place place_of_key(std::string_view key, const Node& value) const;
  void wrong(const Node& node, std::string text) { report_.error(place(node), std::move(text)); }
  const Node& table() const { return table_; }

 private:
  const Document& document_;
  const Node& table_;
  std::string title_;
  Report& report_;
  std::vector<std::string_view> known_{};
};

/// What to say of `key` in `table` where it is one of the keys that stand before every [table]; else empty.
std::string misplaced(std::string_view key, std::string_view table);

/// "250ms", "5s", "2m", "1h" to milliseconds: 1 ms to a day. Nothing for other text.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);

}  // namespace plumberd
