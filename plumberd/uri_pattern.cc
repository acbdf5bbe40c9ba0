#include "plumberd/uri_pattern.hh"

#include <algorithm>

#include "ipc/name.hh"

namespace plumberd {
namespace {
struct Components {
  std::string_view scheme, user, host, port, path;  // path without its first '/'
  bool has_user = false, has_path = false;
};

/// Takes `text` apart at its delimiters; nothing where there is no "://".
std::optional<Components> split(std::string_view text) {
  Components parts;
  const auto colon = text.find("://");
  if (colon == text.npos || colon == 0) return std::nullopt;
  parts.scheme = text.substr(0, colon);
  text.remove_prefix(colon + 3);
  const auto slash = text.find('/');
  parts.has_path = slash != text.npos && slash + 1 < text.size();
  if (parts.has_path) parts.path = text.substr(slash + 1);
  auto authority = text.substr(0, slash);
  const auto at = authority.rfind('@');
  parts.has_user = at != authority.npos;
  if (parts.has_user) parts.user = authority.substr(0, at);
  if (parts.has_user) authority.remove_prefix(at + 1);
  const auto port = authority.rfind(':');
  const bool has_port = port != authority.npos && authority.find(']', port) == authority.npos;
  if (has_port) parts.port = authority.substr(port + 1);
  parts.host = has_port ? authority.substr(0, port) : authority;
  if (parts.host.starts_with('[') && parts.host.ends_with(']'))
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  return parts;
}

bool glob(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = pattern.npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

bool path_covers(std::string_view pattern, std::string_view path) {
  while (true) {
    const auto a = std::min(pattern.find('/'), pattern.size()), b = std::min(path.find('/'), path.size());
    if (!glob(pattern.substr(0, a), path.substr(0, b))) return false;
    if ((a == pattern.size()) != (b == path.size())) return false;
    if (a == pattern.size()) return true;
    pattern.remove_prefix(a + 1);
    path.remove_prefix(b + 1);
  }
}

std::string lower(std::string_view text) {
  std::string result{text};
  std::ranges::transform(result, result.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return result;
}

/// An address in the one form that each has; anything else as it is.
std::string canonical(std::string host) {
  const auto address = ipc::parse_address(host);
  return address ? ipc::to_string(ipc::embedded(*address)) : host;
}

bool port_covers(std::string_view pattern, const ipc::Uri& uri) {
  if (uri.is_unix()) return pattern.empty();
  return glob(pattern.empty() ? "9000" : pattern, std::to_string(uri.port_or_default()));
}

/// The path as the router understands it; for schemes that only their helper understands, as it was written.
std::string_view path_of(const ipc::Uri& uri, const Components& raw) {
  if (!uri.service.empty()) return uri.service;
  if (!uri.path.empty()) return std::string_view{uri.path}.substr(1);
  return raw.path;
}
}  // namespace

bool uri_pattern_covers(std::string_view pattern, const ipc::Uri& uri) {
  const auto wanted = split(pattern), raw = split(uri.raw);
  if (!wanted || !raw || !glob(wanted->scheme, uri.scheme)) return false;
  if (wanted->has_user && !glob(wanted->user, uri.user)) return false;
  if (!glob(canonical(lower(wanted->host)), canonical(uri.host)) || !port_covers(wanted->port, uri))
    return false;
  const auto path = path_of(uri, *raw);
  return wanted->has_path == !path.empty() && path_covers(wanted->path, path);
}

ipc::Result<> check_uri_pattern(std::string_view pattern) {
  const auto parts = split(pattern);
  const auto shown = "\"" + ipc::printable(ipc::mask_secrets(pattern)) + "\"";
  if (!parts)
    return ipc::fail(ipc::Word::bad_request,
                     shown + " is no URI pattern; write SCHEME://HOST[:PORT][/SERVICE]");
  if (parts->user.find(':') != parts->user.npos)
    return ipc::fail(ipc::Word::bad_request, shown + " holds a secret; a pattern selects by user only");
  if (pattern.find_first_of(" \t?#") != pattern.npos)
    return ipc::fail(ipc::Word::bad_request, shown + " has a blank, query or fragment; leave it out");
  return {};
}

std::string filled_in(std::string_view target, std::string_view service) {
  constexpr std::string_view variable = "{service}";
  std::string result{target};
  for (auto at = result.find(variable); at != result.npos; at = result.find(variable, at + service.size()))
    result.replace(at, variable.size(), service);
  return result;
}
}  // namespace plumberd
