// Pre-shared keys: how a secret becomes a key, and files of them.
#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/error.hh"

namespace tlsd {

/// A key, wiped when it goes.
class Psk {
 public:
  explicit Psk(std::vector<unsigned char> bytes) : bytes_{std::move(bytes)} {}
  Psk(const Psk&) = default;
  Psk(Psk&&) noexcept = default;
  Psk& operator=(const Psk&) = delete;
  Psk& operator=(Psk&& from) noexcept;
  ~Psk();
  std::span<const unsigned char> bytes() const { return bytes_; }

 private:
  std::vector<unsigned char> bytes_;
};

/// 32 or more hex digits, an even number of them, are the key in hex; anything else is the key's own bytes,
/// at least 16. BAD_REQUEST otherwise; the secret is never in the sentence.
ipc::Result<Psk> psk_from(std::string_view secret);
/// Whether a secret looks guessed rather than drawn: words, repetitions. For a warning only.
bool is_weak(std::string_view secret);

/// The keys of a `psk_file`: a line `identity:secret` each, the identity in printable ASCII; empty lines and
/// those that begin with # are skipped.
class PskTable {
 public:
  /// BAD_REQUEST names the file and the line, never its content.
  static ipc::Result<PskTable> parse(std::string text, std::string_view file);
  const Psk* find(std::string_view identity) const;
  bool empty() const { return keys_.empty(); }
  const std::vector<std::string>& weak() const { return weak_; }  ///< identities with weak secrets

 private:
  std::map<std::string, Psk, std::less<>> keys_;
  std::vector<std::string> weak_;
};

/// Overwrites a string's memory before it is let go.
void wipe(std::string& text);

}  // namespace tlsd
