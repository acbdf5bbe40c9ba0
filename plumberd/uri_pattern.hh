// Patterns of [[redirect]]: a URI in which `*` stands for any text within one component.
#pragma once
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

}  // namespace plumberd
