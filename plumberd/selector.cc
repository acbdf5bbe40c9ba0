#include "plumberd/selector.hh"

#include <algorithm>
#include <array>
#include <charconv>

#include "ipc/name.hh"
#include "plumberd/nearest.hh"

namespace plumberd {
namespace {
using Kind = Selector::Kind;
using Parsed = std::expected<Selector, SelectorFault>;

constexpr unsigned bit(Direction direction) { return 1U << static_cast<unsigned>(direction); }
constexpr unsigned out = bit(Direction::out), in = bit(Direction::in), local = bit(Direction::local),
                   serve = bit(Direction::serve);

struct Word {
  std::string_view word;
  Kind kind;
  unsigned directions;
  std::string_view where;  // for the remedy
};
constexpr std::array words{
    Word{"unix", Kind::unix_path, local, "local"},
    Word{"user", Kind::user, out | local | serve, "out, local and serve"},
    Word{"group", Kind::group, out | local | serve, "out, local and serve"},
    Word{"exe", Kind::exe, out | local | serve, "out, local and serve"},
    Word{"unit", Kind::unit, out | local | serve, "out, local and serve"},
    Word{"user-unit", Kind::user_unit, out | local | serve, "out, local and serve"},
    Word{"cert", Kind::cert, in, "in"},
    Word{"psk", Kind::psk, in, "in"},
    Word{"as", Kind::as_identity, out, "out"},
};

std::unexpected<SelectorFault> fault(std::size_t offset, std::string text) {
  return std::unexpected(SelectorFault{offset, std::move(text)});
}
std::string quoted(std::string_view text) { return "\"" + ipc::printable(text, 64) + "\""; }

std::string lower(std::string_view text) {
  std::string result{text};
  std::ranges::transform(result, result.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

std::optional<int> hex_pair(std::string_view text) {
  int byte = 0;
  if (text.size() < 2) return std::nullopt;
  const auto [end, status] = std::from_chars(text.data(), text.data() + 2, byte, 16);
  if (status != std::errc{} || end != text.data() + 2 || byte == 0) return std::nullopt;
  return byte;
}

/// %XX to bytes; nothing for a '%' without two digits, or for NUL.
std::optional<std::string> decoded(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    const auto byte = hex_pair(text.substr(i + 1));
    if (!byte) return std::nullopt;
    plain += static_cast<char>(*byte);
    i += 2;
  }
  return plain;
}

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

bool all_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// Absolute, without empty, "." and ".." segments: the form in which the kernel reports paths.
bool is_clean_path(std::string_view path) {
  if (!path.starts_with('/')) return false;
  while (!path.empty()) {
    path.remove_prefix(1);
    const auto segment = path.substr(0, path.find('/'));
    if (segment.empty() || segment == "." || segment == "..") return false;
    path.remove_prefix(segment.size());
  }
  return true;
}

// --- selectors that are WORD:VALUE

std::string bad_path(std::string_view path) {
  return quoted(path) + " is no clean absolute path; write it from / on, without //, . and ..";
}

Parsed finish_unix(Selector selector, std::string_view raw, std::size_t offset) {
  constexpr std::size_t longest = 107;  // sun_path
  selector.subtree = raw.ends_with("/*");
  if (selector.subtree) selector.value.resize(selector.value.size() - 2);
  const bool whole_tree = selector.subtree && selector.value.empty();
  if (!whole_tree && !is_clean_path(selector.value)) return fault(offset, bad_path(raw));
  if (selector.value.size() > longest)
    return fault(offset, "a socket path of more than 107 bytes cannot exist; name a shorter one");
  return selector;
}

Parsed finish_principal(Selector selector, std::string_view word, std::size_t offset) {
  if (!all_digits(selector.value)) return selector;
  constexpr std::uint32_t most = 0xfffffffe;  // all ones is "no such id" to the kernel
  selector.id = number(selector.value, most);
  if (!selector.id) return fault(offset, "no " + std::string(word) + " has a number over 4294967294");
  return selector;
}

Parsed finish_value(Selector selector, std::string_view word, std::string_view raw, std::size_t offset) {
  switch (selector.kind) {
    case Kind::unix_path:
      return finish_unix(std::move(selector), raw, offset);
    case Kind::user:
    case Kind::group:
      return finish_principal(std::move(selector), word, offset);
    case Kind::exe:
      if (!is_clean_path(selector.value)) return fault(offset, bad_path(raw));
      return selector;
    case Kind::unit:
    case Kind::user_unit:
      if (selector.value.find('.') == std::string::npos) selector.value += ".service";  // as systemctl does
      return selector;
    case Kind::cert:
      selector.value = lower(selector.value);
      if (selector.value.find('*') != std::string::npos)
        return fault(offset, "cert: takes one exact name; for a whole domain write tls:*.example.com");
      return selector;
    default:
      return selector;
  }
}

Parsed parse_value(const Word& word, std::string_view text, Direction direction) {
  if ((word.directions & bit(direction)) == 0)
    return fault(0, "\"" + std::string(word.word) + ":\" means nothing in \"" +
                        std::string(to_string(direction)) + "\" rules; it belongs to " +
                        std::string(word.where));
  const auto offset = std::min(word.word.size() + 1, text.size());
  const auto raw = text.substr(offset);
  if (raw.empty())
    return fault(0, "\"" + std::string(word.word) + "\" needs a value; write " + std::string(word.word) +
                        (word.kind == Kind::unix_path ? ":/PATH or unix:/DIRECTORY/*" : ":VALUE"));
  auto value = decoded(raw);
  if (!value)
    return fault(offset, "% in a value stands before two hex digits, not 00; write % itself as %25");
  Selector selector;
  selector.kind = word.kind;
  selector.value = std::move(*value);
  return finish_value(std::move(selector), word.word, raw, offset);
}

// --- SCHEME[:HOST[:PORT]]

bool is_host_name(std::string_view host) {
  constexpr std::size_t longest = 253;
  if (host.empty() || host.size() > longest || host.starts_with('.') || host.ends_with('.')) return false;
  if (host.find("..") != host.npos) return false;
  return std::ranges::all_of(host, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

/// The network ADDRESS[/BITS], or the fault. Addresses that embed an IPv4 one are judged as that one, so a
/// selector that names them would never match.
std::optional<std::string> take_network(Selector& selector, std::string_view text) {
  const auto slash = std::min(text.find('/'), text.size());
  const auto address = ipc::parse_address(text.substr(0, slash));
  if (!address) return quoted(text.substr(0, slash)) + " is no IP address; write it in full";
  const unsigned most = address->v6 ? 128 : 32;
  const auto bits = slash == text.size() ? most : number(text.substr(slash + 1), most);
  if (!bits)
    return quoted(text) + " needs a prefix length of 0 to " + std::to_string(most) +
           "; correct what stands behind the /";
  const auto inner = ipc::embedded(*address);
  const bool is_6to4 = address->bytes[0] == 0x20;
  if (inner != *address && *bits >= (is_6to4 ? 16 : 96))
    return quoted(text) + " is judged as the IPv4 address in it; write " + ipc::to_string(inner);
  selector.host = Selector::Host::network;
  selector.network = *address;
  selector.prefix_bits = static_cast<std::uint8_t>(*bits);
  return std::nullopt;
}

std::optional<std::string> take_name(Selector& selector, std::string_view text, Direction direction) {
  const bool suffix = text.starts_with("*.");
  const auto name = lower(suffix ? text.substr(2) : text);
  const auto last_label = std::string_view{name}.substr(name.rfind('.') + 1);  // npos + 1 == 0
  if (!is_host_name(name))
    return quoted(text) + " is no host; write a name, *.name, an address, ADDRESS/BITS, [IPv6] or *";
  if (all_digits(last_label) || last_label.starts_with("0x"))
    return quoted(text) + " is no plain dotted quad; write all four numbers";
  if (direction == Direction::in && selector.scheme != "tls")
    return "a host name in an \"in\" rule is a certificate's; only tls authenticates one: write tls:" + name +
           " or an address";
  selector.host = suffix ? Selector::Host::suffix : Selector::Host::name;
  selector.value = suffix ? "." + name : name;
  return std::nullopt;
}

std::optional<std::string> take_host(Selector& selector, std::string_view text, Direction direction) {
  if (text == "*") return std::nullopt;
  if (text.starts_with('[')) {
    const auto inside = text.substr(1, text.size() - 2);
    if (inside.find(':') == inside.npos) return quoted(text) + ": brackets are for IPv6; leave them out";
    return take_network(selector, inside);
  }
  const auto slash = text.find('/');
  if (slash != text.npos || ipc::parse_address(text)) return take_network(selector, text);
  return take_name(selector, text, direction);
}

/// Where HOST ends in HOST[:PORT]; nothing if brackets do not close or an IPv6 address lacks them.
std::optional<std::size_t> host_end(std::string_view text) {
  if (!text.starts_with('[')) {
    const auto colon = std::min(text.find(':'), text.size());
    return text.find(':', colon + 1) == text.npos ? std::optional{colon} : std::nullopt;
  }
  const auto close = text.find(']');
  if (close == text.npos || (close + 1 < text.size() && text[close + 1] != ':')) return std::nullopt;
  return close + 1;
}

/// A URI where a peer is meant: its host and port, in the words of a selector.
std::string as_peer(std::string_view scheme, std::string_view behind_slashes) {
  const auto authority = behind_slashes.substr(0, behind_slashes.find('/'));
  const auto host = authority.substr(authority.rfind('@') + 1);  // npos + 1 == 0
  return std::string(scheme) + (host.empty() ? "" : ":" + ipc::printable(host, 64));
}

Parsed parse_endpoint(std::string_view scheme, std::string_view text, Direction direction) {
  Selector selector;
  selector.scheme = scheme;
  if (text.size() == scheme.size()) return selector;
  const auto offset = scheme.size() + 1;
  const auto rest = text.substr(offset);
  if (rest.starts_with("//"))
    return fault(offset, "a peer is no URI; write " + as_peer(scheme, rest.substr(2)));
  const auto end = host_end(rest);
  if (!end)
    return fault(offset, quoted(rest) + " is no HOST or HOST:PORT; IPv6 stands in brackets: [::1]:9000");
  if (*end == 0) return fault(offset, "the host is missing; write \"*\" for any");
  if (auto wrong = take_host(selector, rest.substr(0, *end), direction))
    return fault(offset, std::move(*wrong));
  if (*end == rest.size()) return selector;
  const auto port = number(rest.substr(*end + 1), 65535);
  if (!port || *port == 0)
    return fault(offset + *end + 1,
                 quoted(rest.substr(*end + 1)) + " is no port; write 1 to 65535, or leave it out for any");
  selector.port = static_cast<std::uint16_t>(*port);
  return selector;
}

std::string unknown_word(std::string_view word, const std::vector<std::string>& schemes) {
  std::vector<std::string_view> known(schemes.begin(), schemes.end());
  for (const auto& w : words)
    if (w.kind != Kind::unix_path) known.push_back(w.word);  // a scheme as well
  std::string text = quoted(word) + " is no scheme and no selector";
  if (const auto near = nearest(word, known); !near.empty())
    return text + "; did you mean \"" + std::string(near) + "\"?";
  if (word.find('.') != word.npos || ipc::parse_address(word))
    return text + "; write SCHEME:HOST, as in tcp:" + ipc::printable(word, 64);
  return text + remedy_for(word, known);
}
}  // namespace

bool is_selector_word(std::string_view word) {
  return std::ranges::find(words, word, &Word::word) != words.end();
}

Parsed parse_selector(std::string_view text, Direction direction, const std::vector<std::string>& schemes) {
  const auto word = text.substr(0, text.find(':'));
  if (text.empty()) return fault(0, "a selector is missing; selectors are joined by single commas");
  if (text == "*") return fault(0, "\"*\" stands alone; with other selectors leave it out");
  const auto* known = std::ranges::find(words, word, &Word::word);
  if (known != words.end()) return parse_value(*known, text, direction);
  if (std::ranges::find(schemes, word) == schemes.end()) return fault(0, unknown_word(word, schemes));
  if (direction != Direction::in && direction != Direction::out)
    return fault(0, "SCHEME:HOST means nothing in \"" + std::string(to_string(direction)) +
                        "\" rules; it belongs to in and out");
  return parse_endpoint(word, text, direction);
}
}  // namespace plumberd
