// Patterns of [[redirect]], URIs in which `*` stands for any text within one component; and what they lead
// to.
#pragma once
#include <string>
#include <string_view>

#include "ipc/error.hh"
#include "ipc/uri.hh"

namespace plumberd {

/// Whether `pattern` covers `uri`. Components are scheme, user, host, port and each path segment. A pattern
/// without a user covers all users (or a client could step around a redirect by naming one); without a port,
/// the default port; without a path, raw URIs only.
bool uri_pattern_covers(std::string_view pattern, const ipc::Uri& uri);
/// BAD_REQUEST with "what; remedy" for text that is no pattern.
ipc::Result<> check_uri_pattern(std::string_view pattern);
/// `target` of a redirect or route with `service` in the place of each `{service}`.
std::string filled_in(std::string_view target, std::string_view service);

}  // namespace plumberd
