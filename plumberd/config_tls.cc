// [tls.NAME]: checked against one table of keys and handed to helpers as JSON.
#include <algorithm>
#include <array>
#include <span>

#include "ipc/json.hh"
#include "plumberd/draft.hh"
#include "plumberd/nearest.hh"

namespace plumberd {
namespace {
enum class Type : std::uint8_t { text, path, paths, list, choice, choices, flag, number, duration };

constexpr std::array<std::string_view, 2> versions{"1.2", "1.3"};
constexpr std::array<std::string_view, 3> ktls{"off", "relay", "direct"};
constexpr std::array<std::string_view, 3> verify{"full", "pins", "none"};
constexpr std::array<std::string_view, 3> client_auth{"none", "request", "require"};

/// All keys of a profile. What they mean is in plumberd.toml(5); times reach the helper as NAME_ms.
struct TlsKey {
  std::string_view name;
  Type type;
  std::span<const std::string_view> choices{};
};
constexpr std::array keys{
    TlsKey{"certificate", Type::path},
    TlsKey{"private_key", Type::path},
    TlsKey{"ca", Type::paths},
    TlsKey{"client_ca", Type::paths},
    TlsKey{"client_auth", Type::choice, client_auth},
    TlsKey{"pins", Type::list},
    TlsKey{"crl", Type::paths},
    TlsKey{"psk_file", Type::path},
    TlsKey{"identity", Type::text},
    TlsKey{"verify", Type::choice, verify},
    TlsKey{"server_name", Type::text},
    TlsKey{"versions", Type::choices, versions},
    TlsKey{"ciphers", Type::text},
    TlsKey{"ciphersuites", Type::text},
    TlsKey{"groups", Type::text},
    TlsKey{"alpn", Type::list},
    TlsKey{"ktls", Type::choice, ktls},
    TlsKey{"session_cache", Type::flag},
    TlsKey{"session_lifetime", Type::duration},
    TlsKey{"handshake_timeout", Type::duration},
    TlsKey{"idle_timeout", Type::duration},
    TlsKey{"workers", Type::number},
    TlsKey{"keylog", Type::path},
};

/// One profile on its way to JSON.
class Profile {
 public:
  Profile(Fields& fields, const SourceText& source) : fields_{fields}, source_{source} {}

  std::string json() {
    ipc::JsonWriter writer{json_};
    writer.object();
    for (const auto& key : keys)
      if (const auto* node = fields_.take(key.name)) write(writer, key, *node);
    writer.end();
    fields_.finish();
    check_pair("certificate", "private_key");
    check_pair("private_key", "certificate");
    return std::move(json_);
  }

 private:
  /// Relative to the directory of the file that names it.
  std::string path(const std::string& text) const {
    const auto slash = source_.name().rfind('/');
    if (text.starts_with('/') || slash == std::string::npos) return text;
    return source_.name().substr(0, slash + 1) + text;
  }

  void write(ipc::JsonWriter& writer, const TlsKey& key, const Node& node) {
    switch (key.type) {
      case Type::flag:
        return write_flag(writer, key);
      case Type::number:
        return write_number(writer, key);
      case Type::duration:
        return write_duration(writer, key);
      case Type::text:
      case Type::path:
      case Type::choice:
        return write_text(writer, key, node);
      default:
        return write_list(writer, key, node);
    }
  }

  void write_flag(ipc::JsonWriter& writer, const TlsKey& key) {
    bool value = false;
    fields_.boolean(key.name, value);
    writer.add(key.name, value);
  }

  void write_number(ipc::JsonWriter& writer, const TlsKey& key) {
    unsigned value = 1;
    fields_.integer(key.name, value, 1, 64);
    writer.add(key.name, static_cast<std::int64_t>(value));
  }

  void write_duration(ipc::JsonWriter& writer, const TlsKey& key) {
    std::chrono::milliseconds value{0};
    fields_.duration(key.name, value);
    writer.add(std::string(key.name) + "_ms", static_cast<std::int64_t>(value.count()));
  }

  bool chosen(const TlsKey& key, const std::string& value, const Node& node) {
    if (key.choices.empty() || std::ranges::find(key.choices, value) != key.choices.end()) return true;
    fields_.wrong(
        node, quoted(value) + " is no value of " + std::string(key.name) + remedy_for(value, key.choices));
    return false;
  }

  void write_text(ipc::JsonWriter& writer, const TlsKey& key, const Node& node) {
    std::string value;
    fields_.string(key.name, value);
    if (node.kind != Node::Kind::string || !chosen(key, value, node)) return;
    if (value.empty())
      return fields_.wrong(node, quoted(key.name) + " is empty; remove it or give it a value");
    writer.add(key.name, key.type == Type::path ? path(value) : value);
  }

  /// A list, of which one element may stand alone where paths are meant.
  void write_list(ipc::JsonWriter& writer, const TlsKey& key, const Node& node) {
    std::vector<std::string> values;
    fields_.strings(key.name, values, key.type == Type::paths);
    writer.key(key.name).array();
    for (const auto& value : values) {
      chosen(key, value, node);
      if (key.name == "pins") check_pin(value, node);
      writer.string(key.type == Type::paths ? path(value) : value);
    }
    writer.end();
  }

  void check_pin(std::string_view pin, const Node& node) {
    const bool hex = pin.size() == 64 && pin.find_first_not_of("0123456789abcdefABCDEF") == pin.npos;
    constexpr std::size_t digest_in_base64 = 44;
    const bool base64 = pin.starts_with("sha256/") && pin.size() == 7 + digest_in_base64;
    if (!hex && !base64)
      fields_.wrong(
          node,
          quoted(pin) + " is no pin; write the SHA-256 of the public key as 64 hex digits or sha256/BASE64");
  }

  void check_pair(std::string_view one, std::string_view other) {
    const auto* node = fields_.take(one);
    if (node != nullptr && fields_.take(other) == nullptr)
      fields_.wrong(*node, quoted(one) + " needs " + quoted(other) + " beside it; add it");
  }

  Fields& fields_;
  const SourceText& source_;
  std::string json_{};
};
}  // namespace

void read_profiles(Draft& draft, const Document& document, Fields& root) {
  const auto* node = root.take("tls");
  if (node == nullptr) return;
  Fields profiles{document, *node, "[tls]", draft.report};
  for (const auto& [name, table] : profiles.table().members) {
    const auto place = profiles.place_of_key(name, table);
    Fields fields{document, table, "[tls." + name + "]", draft.report};
    auto json = Profile{fields, *document.source}.json();
    if (!draft.config.profiles.emplace(name, std::move(json)).second)
      draft.report.error(place, "[tls." + name + "] is given in two files; merge them");
  }
}
}  // namespace plumberd
