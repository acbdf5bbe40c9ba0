// JSON for our wires (RFC 8259), strict and bounded: no duplicate keys, at most 16 levels, valid UTF-8.
#pragma once
#include <cstdint>
#include <initializer_list>
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

/// Appends JSON text to a string. Objects and arrays are closed by `end()`; commas are put by themselves.
class JsonWriter {
 public:
  explicit JsonWriter(std::string& out) : out_{out} {
    if (out.capacity() < usual_size) out.reserve(usual_size);  // one allocation, not one per doubling
  }
  JsonWriter& object() { return open('{'); }
  JsonWriter& array() { return open('['); }
  JsonWriter& end();
  JsonWriter& key(std::string_view name);
  JsonWriter& string(std::string_view value);
  JsonWriter& number(std::int64_t value);
  JsonWriter& decimal(double value);
  JsonWriter& boolean(bool value);
  JsonWriter& null();
  JsonWriter& raw(std::string_view json);  ///< text that is JSON already
  /// key and value in one.
  JsonWriter& add(std::string_view name, std::string_view value) { return key(name).string(value); }
  JsonWriter& add(std::string_view name, const char* value) { return key(name).string(value); }
  JsonWriter& add(std::string_view name, const std::string& value) { return key(name).string(value); }
  JsonWriter& add(std::string_view name, std::int64_t value) { return key(name).number(value); }
  JsonWriter& add(std::string_view name, bool value) { return key(name).boolean(value); }
  JsonWriter& add(std::string_view name, const Labels& labels);
  /// Adds the member only when there is something in it.
  JsonWriter& add_if(std::string_view name, std::string_view value) {
    return value.empty() ? *this : add(name, value);
  }

 private:
  static constexpr std::size_t usual_size = 256;
  JsonWriter& open(char bracket);
  void separate();
  std::string& out_;
  std::uint32_t depth_ = 0;
  std::uint64_t arrays_ = 0;  ///< bit per level: it is an array
  bool first_ = true;
  bool after_key_ = false;
};

class JsonDocument;

/// A value inside a document, which must outlive it. Asking for a member of what is no object finds nothing.
class JsonView {
 public:
  JsonView() = default;
  bool exists() const { return value_ != nullptr; }
  bool is_object() const;
  bool is_array() const;
  bool is_string() const;
  bool is_null() const;
  JsonView operator[](std::string_view name) const;
  std::optional<std::string_view> string() const;
  std::optional<std::int64_t> integer() const;
  std::optional<double> real() const;
  std::optional<bool> boolean() const;
  /// The string, or `otherwise` where it is missing or no string.
  std::string_view string_or(std::string_view otherwise) const { return string().value_or(otherwise); }
  std::int64_t integer_or(std::int64_t otherwise) const { return integer().value_or(otherwise); }
  bool boolean_or(bool otherwise) const { return boolean().value_or(otherwise); }
  std::size_t size() const;                  ///< of an array
  JsonView at(std::size_t index) const;      ///< of an array
  std::vector<std::string> strings() const;  ///< the strings of an array
  Labels labels() const;                     ///< the string members of an object
  std::vector<std::string> keys() const;     ///< of an object
  std::string text() const;                  ///< written out again

 private:
  friend class JsonDocument;
  explicit JsonView(const void* value) : value_{value} {}
  const void* value_ = nullptr;
};

class JsonDocument {
 public:
  /// BAD_REQUEST with the place of the error; nothing is kept of `text`.
  static Result<JsonDocument> parse(std::string_view text);
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();
  JsonView root() const;

 private:
  struct Body;
  explicit JsonDocument(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

}  // namespace ipc
