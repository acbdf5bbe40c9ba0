// [tls.NAME]: checked against one table of keys and handed to helpers as JSON.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "ipc/json.hh"
#include "plumberd/draft.hh"
#include "plumberd/nearest.hh"

namespace plumberd {
namespace {
enum class Type : std::uint8_t {
  text,
  path,
  file,
  files,
  places,
  list,
  choice,
  choices,
  flag,
  number,
  duration
};

constexpr std::array<std::string_view, 2> versions{"1.2", "1.3"};
constexpr std::array<std::string_view, 3> ktls{"off", "relay", "direct"};
constexpr std::array<std::string_view, 3> verify{"full", "pins", "none"};
constexpr std::array<std::string_view, 3> client_auth{"none", "request", "require"};

/// A path may not be there yet, a file must, and a place is a file or a directory.
bool is_path(Type type) { return type >= Type::path && type <= Type::places; }
bool is_list_of_paths(Type type) { return type == Type::files || type == Type::places; }

/// All keys of a profile. What they mean is in plumberd.toml(5); times reach the helper as NAME_ms.
struct TlsKey {
  std::string_view name;
  Type type;
  std::span<const std::string_view> choices{};
};
constexpr std::array keys{
    TlsKey{"certificate", Type::file},
    TlsKey{"private_key", Type::file},
    TlsKey{"ca", Type::places},
    TlsKey{"client_ca", Type::places},
    TlsKey{"client_auth", Type::choice, client_auth},
    TlsKey{"pins", Type::list},
    TlsKey{"crl", Type::files},
    TlsKey{"psk_file", Type::file},
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
  Profile(Draft& draft, Fields& fields, const SourceText& source)
      : draft_{draft}, fields_{fields}, source_{source} {}

  std::string json() {
    ipc::JsonWriter writer{json_};
    writer.object();
    for (const auto& key : keys)
      if (const auto* node = fields_.take(key.name)) write(writer, key, *node);
    writer.end();
    fields_.finish();
    check_pair("certificate", "private_key");
    check_pair("private_key", "certificate");
    check_pair("verify", "pins", "pins");
    check_pair("client_auth", "client_ca", "request");
    check_pair("client_auth", "client_ca", "require");
    return std::move(json_);
  }

 private:
  /// Relative to the directory of the file that names it.
  std::string path(const std::string& text) const {
    const auto slash = source_.name().rfind('/');
    if (text.starts_with('/') || slash == std::string::npos) return text;
    return source_.name().substr(0, slash + 1) + text;
  }

  /// Whether a file can be read and used is tlsd's to say: keys are not opened here, and who checks a
  /// configuration need not be who runs it.
  std::string checked_path(const TlsKey& key, const std::string& text, const Node& node) {
    auto full = path(text);
    struct stat status {};
    const bool is_missing = ::stat(full.c_str(), &status) != 0;
    if (!draft_.looks_around || key.type == Type::path || (is_missing && errno == EACCES)) return full;
    if (is_missing)
      tell(node, quoted(full) + ": " + ipc::errno_text(errno) + "; correct " + std::string(key.name));
    if (!is_missing && S_ISDIR(status.st_mode) && key.type != Type::places)
      tell(node, quoted(full) + " is a directory; " + std::string(key.name) + " takes files");
    return full;
  }

  /// It may come later, and other profiles may be fine: no error.
  void tell(const Node& node, std::string text) {
    draft_.report.warning(fields_.place(node), std::move(text));
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
      case Type::file:
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
    writer.add(key.name, is_path(key.type) ? checked_path(key, value, node) : value);
  }

  /// A list, of which one element may stand alone where paths are meant.
  void write_list(ipc::JsonWriter& writer, const TlsKey& key, const Node& node) {
    std::vector<std::string> values;
    fields_.strings(key.name, values, is_list_of_paths(key.type));
    writer.key(key.name).array();
    for (const auto& value : values) {
      chosen(key, value, node);
      if (key.name == "pins") check_pin(value, node);
      if (key.name == "alpn") check_protocol(value, node);
      writer.string(is_path(key.type) ? checked_path(key, value, node) : value);
    }
    writer.end();
  }

  void check_pin(std::string_view pin, const Node& node) {
    const bool hex = pin.size() == 64 && pin.find_first_not_of("0123456789abcdefABCDEF") == pin.npos;
    constexpr std::size_t digest_in_base64 = 44;
    const auto is_base64 = [&](std::string_view prefix) {
      return pin.starts_with(prefix) && pin.size() == prefix.size() + digest_in_base64;
    };
    const bool base64 = is_base64("sha256/") || is_base64("sha256//");
    if (!hex && !base64)
      fields_.wrong(
          node,
          quoted(pin) + " is no pin; write the SHA-256 of the public key as 64 hex digits or sha256//BASE64");
  }

  void check_protocol(std::string_view protocol, const Node& node) {
    constexpr std::size_t longest = 255;
    if (protocol.empty() || protocol.size() > longest)
      fields_.wrong(node, "a protocol in \"alpn\" has 1 to 255 bytes; correct or remove " + quoted(protocol));
    if (protocol == "plumb/1")
      fields_.wrong(node, "\"plumb/1\" is reserved in \"alpn\"; remove it: ktls = \"direct\" offers it");
  }

  /// `one`, if it has this value (empty: any), is of no use without `other`.
  void check_pair(std::string_view one, std::string_view other, std::string_view value = {}) {
    const auto* node = fields_.take(one);
    if (node == nullptr || (!value.empty() && node->text != value)) return;
    const auto* beside = fields_.take(other);
    const bool is_empty = beside != nullptr && beside->kind == Node::Kind::array && beside->items.empty();
    if (beside != nullptr && !is_empty) return;
    const auto what = value.empty() ? quoted(one) : std::string(one) + " = " + quoted(value);
    fields_.wrong(*node, what + " needs " + quoted(other) + " beside it; add it");
  }

  Draft& draft_;
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
    auto json = Profile{draft, fields, *document.source}.json();
    if (!draft.config.profiles.emplace(name, std::move(json)).second)
      draft.report.error(place, "[tls." + name + "] is given in two files; merge them");
  }
}
}  // namespace plumberd
