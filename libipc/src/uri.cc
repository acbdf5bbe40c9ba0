#include "ipc/uri.hh"

#include <uriparser/Uri.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <vector>

#include "ipc/name.hh"

namespace ipc {
namespace {
using Range = UriTextRangeA;

std::string_view view(const Range& range) {
  return range.first == nullptr
             ? std::string_view{}
             : std::string_view{range.first, static_cast<std::size_t>(range.afterLast - range.first)};
}

std::unexpected<Error> bad_uri(std::string_view text, std::string_view why) {
  return fail(Word::bad_request, "URI \"" + printable(mask_secrets(text)) + "\" " + std::string(why));
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// Percent-decodes one component; a decoded '/', NUL or control byte is refused (nothing).
std::optional<std::string> decoded(std::string_view part) {
  if (part.find('%') == part.npos) return std::string(part);
  std::string plain;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i] != '%') {
      plain += part[i];
      continue;
    }
    if (i + 2 >= part.size() || hex_value(part[i + 1]) < 0 || hex_value(part[i + 2]) < 0) return std::nullopt;
    const int byte = hex_value(part[i + 1]) * 16 + hex_value(part[i + 2]);
    if (byte == '/' || byte < 0x20 || byte == 0x7f) return std::nullopt;
    plain += static_cast<char>(byte);
    i += 2;
  }
  return plain;
}

std::string lower(std::string_view text) {
  std::string result{text};
  std::ranges::transform(result, result.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

/// A@B:HOST:PORT as authority, exactly one '@' and two ':' behind it, becomes A:B@HOST:PORT (an old habit of
/// users).
std::optional<std::string> without_legacy_authority(std::string_view text) {
  const auto start = text.find("://");
  if (start == text.npos) return std::nullopt;
  const auto end = std::min(text.find_first_of("/?#", start + 3), text.size());
  const auto authority = text.substr(start + 3, end - start - 3);
  const auto at = authority.find('@');
  if (at == authority.npos || std::ranges::count(authority, '@') != 1 ||
      std::ranges::count(authority, ':') != 2)
    return std::nullopt;
  const auto rest = authority.substr(at + 1);
  if (rest.find_first_of("[]") != rest.npos || authority.substr(0, at).find(':') != authority.npos)
    return std::nullopt;
  const auto colon = rest.find(':');
  return std::string(text.substr(0, start + 3)) + std::string(authority.substr(0, at)) + ":" +
         std::string(rest.substr(0, colon)) + "@" + std::string(rest.substr(colon + 1)) +
         std::string(text.substr(end));
}

bool last_label_is_numeric(std::string_view host) {
  const auto label = host.substr(host.rfind('.') + 1);  // npos + 1 == 0
  if (label.empty()) return false;
  const bool digits = std::ranges::all_of(label, [](char c) { return c >= '0' && c <= '9'; });
  const bool hex = label.size() >= 2 && label[0] == '0' && label[1] == 'x' &&
                   std::ranges::all_of(label.substr(2), [](char c) { return hex_value(c) >= 0; });
  return digits || hex;
}

bool is_host_name(std::string_view host) {
  if (host.empty() || host.size() > 253 || host.starts_with('.') || host.ends_with('.') ||
      host.find("..") != host.npos)
    return false;
  return std::ranges::all_of(host, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

Result<> take_userinfo(Uri& uri, std::string_view info, std::string_view text) {
  const auto colon = std::min(info.find(':'), info.size());
  auto user = decoded(info.substr(0, colon));
  auto secret = decoded(info.substr(std::min(colon + 1, info.size())));
  if (!user || !secret) return bad_uri(text, "has a control byte or '/' in its user part");
  uri.user = std::move(*user);
  uri.secret = std::move(*secret);
  return {};
}

Result<> take_host(Uri& uri, const UriUriA& parts, std::string_view text) {
  auto host = decoded(view(parts.hostText));
  if (!host) return bad_uri(text, "has a control byte or '/' in its host");
  // "example.com." is the same host: rules and redirects must not miss it for its final dot (RFC 1034, 3.1).
  if (host->ends_with('.') && !uri.is_unix()) host->pop_back();
  uri.host = lower(*host);
  uri.address = parse_address(uri.host);
  const bool bracketed = parts.hostData.ip6 != nullptr;
  if (uri.address && uri.address->v6 != bracketed)
    return bad_uri(text, "has an IPv6 address without brackets");
  if (parts.hostData.ipFuture.first != nullptr) return bad_uri(text, "has a host of unknown form");
  return {};
}

Result<> take_port(Uri& uri, std::string_view port, std::string_view text) {
  if (port.empty()) return {};
  unsigned value = 0;
  const auto [end, status] = std::from_chars(port.data(), port.data() + port.size(), value);
  if (status != std::errc{} || end != port.data() + port.size() || value > 65535)
    return bad_uri(text, "has a port that is not 0-65535");
  uri.port = static_cast<std::uint16_t>(value);
  return {};
}

Result<> check_inet_host(const Uri& uri, std::string_view text) {
  if (uri.address) return {};
  if (uri.host.empty()) return bad_uri(text, "has no host");
  if (last_label_is_numeric(uri.host))
    return bad_uri(text, "has a numeric host that is no plain dotted quad");
  if (!is_host_name(uri.host)) return bad_uri(text, "has a host that is neither a name nor an address");
  return {};
}

Result<> take_service(Uri& uri, const std::vector<std::string>& segments, std::string_view text) {
  if (segments.size() > 1) return bad_uri(text, "has more than one path segment; it names one service");
  if (segments.empty() || segments[0].empty()) {
    if (!uri.port) return bad_uri(text, "needs a port (raw) or a service (hop)");
    return {};
  }
  if (auto ok = check_service_name(segments[0]); !ok)
    return bad_uri(text, "names no service: " + ok.error().text);
  uri.service = segments[0];
  return {};
}

Result<> finish_inet(Uri& uri, const std::vector<std::string>& segments, bool query, std::string_view text) {
  if (query) return bad_uri(text, "has a query; " + uri.scheme + " takes none");
  if (uri.scheme != "tls" && uri.scheme != "dtls" && !(uri.user.empty() && uri.secret.empty()))
    return bad_uri(text, "has a user part; " + uri.scheme + " takes none");
  if (auto ok = check_inet_host(uri, text); !ok) return ok;
  return take_service(uri, segments, text);
}

Result<> take_type(Uri& uri, std::string_view query, std::string_view text) {
  if (!query.starts_with("type=")) return bad_uri(text, "has an unknown query key; unix takes type=");
  uri.type = query.substr(5);
  if (uri.type == "stream" || uri.type == "dgram" || uri.type == "seqpacket") return {};
  return bad_uri(text, "has a type that is none of stream, dgram, seqpacket");
}

Result<> take_unix_path(Uri& uri, const std::vector<std::string>& segments, std::string_view text) {
  for (const auto& segment : segments) {
    if (segment.empty() || segment == "." || segment == "..")
      return bad_uri(text, "has an empty, '.' or '..' path segment");
    uri.path += "/" + segment;
  }
  if (uri.path.size() > 107) return bad_uri(text, "has a path of more than 107 bytes (sun_path)");
  return {};
}

Result<> finish_unix(Uri& uri, const std::vector<std::string>& segments, std::string_view query,
                     std::string_view text) {
  if (uri.port || !uri.user.empty() || !uri.secret.empty())
    return bad_uri(text, "has a port or user; unix takes none");
  if (!query.empty()) {
    if (auto ok = take_type(uri, query, text); !ok) return ok;
  }
  if (!uri.host
           .empty()) {  // unix://service; the host is compared exactly, so its case is taken from the text
    if (!segments.empty()) return bad_uri(text, "is neither unix:///SERVICE nor unix:///absolute/path");
    uri.service = text.substr(text.find("://") + 3, uri.host.size());
    uri.host.clear();
  } else if (segments.size() == 1) {
    uri.service = segments[0];
  } else {
    return take_unix_path(uri, segments, text);
  }
  if (!uri.type.empty()) return bad_uri(text, "has a type; it belongs to unix:///absolute/path only");
  if (auto ok = check_service_name(uri.service); !ok)
    return bad_uri(text, "names no service: " + ok.error().text);
  return {};
}

Result<std::vector<std::string>> segments_of(const UriUriA& parts, std::string_view text) {
  std::vector<std::string> segments;
  for (const auto* segment = parts.pathHead; segment != nullptr; segment = segment->next) {
    auto plain = decoded(view(segment->text));
    if (!plain) return bad_uri(text, "has '/', NUL or a control byte in a path segment");
    segments.push_back(std::move(*plain));
  }
  return segments;
}

using OwnedParts = std::unique_ptr<UriUriA, void (*)(UriUriA*)>;

/// `parts` points into `text`, and is freed with what is returned.
Result<OwnedParts> split(UriUriA& parts, std::string_view text) {
  const char* error_at = nullptr;
  if (uriParseSingleUriExA(&parts, text.data(), text.data() + text.size(), &error_at) != URI_SUCCESS)
    return bad_uri(text, "is not a URI (RFC 3986)");
  return OwnedParts{&parts, uriFreeUriMembersA};
}

bool known_scheme(std::string_view scheme) {
  return scheme == "tcp" || scheme == "tls" || scheme == "dtls" || scheme == "udp" || scheme == "unix";
}

Result<> fill(Uri& uri, const UriUriA& parts, std::string_view text) {
  uri.scheme = lower(view(parts.scheme));
  if (uri.scheme.empty() || !std::string_view(text).substr(uri.scheme.size()).starts_with("://"))
    return bad_uri(text, "is not of the form SCHEME://...");
  const bool known = known_scheme(uri.scheme);
  if (known && parts.fragment.first != nullptr) return bad_uri(text, "has a fragment");
  TRY(take_userinfo(uri, view(parts.userInfo), text));
  TRY(take_host(uri, parts, text));
  TRY(take_port(uri, view(parts.portText), text));
  if (!known) return {};
  const auto segments = TRY(segments_of(parts, text));
  if (uri.is_unix()) return finish_unix(uri, segments, view(parts.query), text);
  return finish_inet(uri, segments, parts.query.first != nullptr, text);
}
}  // namespace

bool Uri::is_localhost() const { return host == "localhost" || host.ends_with(".localhost"); }

Result<Uri> parse_uri(std::string_view given) {
  Uri uri;
  uri.raw = given;
  constexpr std::size_t longest = 2048;
  if (given.size() > longest) return fail(Word::bad_request, "a URI of more than 2048 bytes");
  if (given.find('\0') != given.npos) return fail(Word::bad_request, "a URI that contains a NUL byte");
  if (auto modern = without_legacy_authority(given)) {
    uri.raw = std::move(*modern);
    uri.warning = "\"" + printable(mask_secrets(given)) + "\" is read as \"" +
                  printable(mask_secrets(uri.raw)) + "\"; write user:secret@host:port";
  }
  UriUriA parts;
  const auto owner = TRY(split(parts, uri.raw));
  TRY(fill(uri, parts, uri.raw));
  return uri;
}

Result<> name_service(Uri& uri) {
  const std::string_view text = uri.raw;
  UriUriA parts;
  const auto owner = TRY(split(parts, text));
  if (parts.query.first != nullptr || parts.fragment.first != nullptr)
    return bad_uri(text, "goes on behind its path, which names a service");
  if (uri.host.empty()) return bad_uri(text, "has no host");
  return take_service(uri, TRY(segments_of(parts, text)), text);
}

std::string mask_secrets(std::string_view text) {
  if (text.find('@') == text.npos) return std::string(text);
  const auto start = text.find("://");
  if (start == text.npos) return std::string(text);
  auto end = std::min(text.find_first_of("/?#", start + 3), text.size());
  if (text.substr(0, end).find('@', start + 3) == text.npos) {
    // A secret with an unencoded '/', '?' or '#' in it is no URI any more, but a secret still.
    const auto last = text.rfind('@');
    const auto first = text.find(':', start + 3);
    if (last != text.npos && last > start + 3 && first < last) end = last + 1;
  }
  const auto authority = text.substr(start + 3, end - start - 3);
  const auto at = authority.rfind('@');
  const auto colon = authority.find(':');
  if (at == authority.npos) return std::string(text);  // it was further on
  const auto shown = std::string(text.substr(0, start + 3));
  if (colon < at)
    return shown + std::string(authority.substr(0, colon)) + ":***" +
           std::string(text.substr(start + 3 + at));
  if (colon == authority.rfind(':')) return std::string(text);
  // A@B:HOST:PORT, the legacy form: B is the secret.
  return shown + std::string(authority.substr(0, at)) + "@***" + std::string(text.substr(start + 3 + colon));
}

std::string to_string(const Uri& uri) { return printable(mask_secrets(uri.raw), 2048); }
}  // namespace ipc
