// JSON for our wires (RFC 8259), strict and bounded: no duplicate keys, at most 16 levels, valid UTF-8.
#pragma once
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/error.hh"

namespace ipc {

using Labels = std::map<std::string, std::string, std::less<>>;

/// The name of a member. Those that stand in the code need no look at whether they must be escaped.
struct JsonKey {
  template <std::size_t size>
  consteval JsonKey(const char (&literal)[size]) : text{literal, size - 1}, is_plain{true} {
    for (const char c : text)
      if (c < 0x20 || c == '"' || c == '\\') throw "a key that must be escaped";  // refused by the compiler
  }
  JsonKey(std::string_view foreign) : text{foreign} {}
  JsonKey(const std::string& foreign) : text{foreign} {}
  std::string_view text;
  bool is_plain = false;
};

/// Appends JSON text to a string. Objects and arrays are closed by `end()`; commas are put by themselves.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_{out} {
    if (out.capacity() < usual_size) out.reserve(usual_size);  // one allocation, not one per doubling
  }
  JsonWriter& object() { return open('{'); }
  JsonWriter& array() { return open('['); }
  JsonWriter& end();
  JsonWriter& key(JsonKey name);
  JsonWriter& string(std::string_view value);
  JsonWriter& number(std::int64_t value);
  JsonWriter& decimal(double value);
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  ///< text that is JSON already
  /// key and value in one.
  JsonWriter& add(JsonKey name, std::string_view value) { return key(name).string(value); }
  JsonWriter& add(JsonKey name, const char* value) { return key(name).string(value); }
  JsonWriter& add(JsonKey name, const std::string& value) { return key(name).string(value); }
  JsonWriter& add(JsonKey name, std::int64_t value) { return key(name).number(value); }
  JsonWriter& add(JsonKey name, bool value) { return key(name).boolean(value); }
  JsonWriter& add(JsonKey name, const Labels& labels);
  /// Adds the member only when there is something in it.
  JsonWriter& add_if(JsonKey name, std::string_view value) {
    return value.empty() ? *this : add(name, value);
  }

 private:
  static constexpr std::size_t usual_size = 256;
  JsonWriter& open(char bracket);
  void separate();
  void escape(std::string_view text, char behind);
  void quote(std::string_view plain, char behind);
  bool needs_comma() const { return !first_ && !after_key_ && depth_ > 0; }
  std::string& out_;
  std::uint32_t depth_ = 0;
  std::uint64_t arrays_ = 0;  ///< bit per level: it is an array
  bool first_ = true;
  bool after_key_ = false;
};

namespace detail {
/// One value of a document, or a member's key. What it contains follows it: `span` nodes are it and all that,
/// so that its next sibling is `span` further on.
struct JsonNode {
  enum class Kind : std::uint8_t { null, boolean, number, string, array, object };
  const char* text;    ///< of a string, unescaped; of a number or literal as it was written
  std::uint32_t size;  ///< of `text`; of an array or object: how many elements or members
  std::uint32_t span : 28;
  Kind kind : 4;
};
}  // namespace detail

/// A value inside a document, which must outlive it. Asking for a member of what is no object finds nothing.
class JsonView {
 public:
  /// Walks over the elements of an array, or over keys and values of an object in turn.
  class Iterator {
   public:
    using value_type = JsonView;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    JsonView operator*() const { return JsonView{node_}; }
    Iterator& operator++() {
      node_ += node_->span;
      return *this;
    }
    Iterator operator++(int) {
      const auto before = *this;
      node_ += node_->span;
      return before;
    }
    bool operator==(const Iterator&) const = default;

   private:
    friend class JsonView;
    explicit Iterator(const detail::JsonNode* node) : node_{node} {}
    const detail::JsonNode* node_ = nullptr;
  };

  JsonView() = default;
  bool exists() const { return node_ != nullptr; }
  bool is_object() const { return is(Kind::object); }
  bool is_array() const { return is(Kind::array); }
  bool is_string() const { return is(Kind::string); }
  bool is_null() const { return is(Kind::null); }
  JsonView operator[](std::string_view name) const;
  std::optional<std::string_view> string() const;
  std::optional<std::int64_t> integer() const;
  std::optional<double> real() const;
  std::optional<bool> boolean() const;
  /// The string, or `otherwise` where it is missing or no string.
  std::string_view string_or(std::string_view otherwise) const { return string().value_or(otherwise); }
  std::int64_t integer_or(std::int64_t otherwise) const { return integer().value_or(otherwise); }
  bool boolean_or(bool otherwise) const { return boolean().value_or(otherwise); }
  std::size_t size() const { return is_array() ? node_->size : 0; }  ///< of an array
  Iterator begin() const { return Iterator{is_container() ? node_ + 1 : node_}; }
  Iterator end() const { return Iterator{is_container() ? node_ + node_->span : node_}; }
  JsonView at(std::size_t index) const;      ///< of an array; walks there: to see all, iterate
  std::vector<std::string> strings() const;  ///< the strings of an array
  Labels labels() const;                     ///< the string members of an object
  std::vector<std::string> keys() const;     ///< of an object
  std::string text() const;                  ///< written out again, numbers as they were

 private:
  friend class JsonDocument;
  using Kind = detail::JsonNode::Kind;
  explicit JsonView(const detail::JsonNode* node) : node_{node} {}
  bool is(Kind kind) const { return exists() && node_->kind == kind; }
  bool is_container() const { return is_array() || is_object(); }
  std::string_view raw() const { return {node_->text, node_->size}; }
  void write(JsonWriter& writer) const;
  const detail::JsonNode* node_ = nullptr;
};

class JsonDocument {
 public:
  /// BAD_REQUEST with the place of the error; nothing is kept of `text`.
  static Result<JsonDocument> parse(std::string_view text);
  JsonDocument(JsonDocument&&) noexcept = default;
  JsonDocument& operator=(JsonDocument&& from) noexcept;
  /// Wipes its text: it may hold a secret.
  ~JsonDocument();
  JsonView root() const { return JsonView{nodes_.data()}; }

 private:
  JsonDocument() = default;
  std::unique_ptr<char[]> text_;  ///< in which the strings are
  std::size_t size_ = 0;          ///< of it
  std::vector<detail::JsonNode> nodes_;
};

}  // namespace ipc
