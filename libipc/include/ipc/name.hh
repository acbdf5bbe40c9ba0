// Service names and IPC_NETWORKD: the words that clients bring.
#pragma once
#include <string>
#include <string_view>

#include "ipc/error.hh"

namespace ipc {

/// A service name: dot-joined labels of 1-63 bytes [A-Za-z0-9_-], 100 bytes in all, no leading '-', not
/// reserved. BAD_REQUEST names what is wrong; such a name never reaches the file system.
Result<> check_service_name(std::string_view name);

/// The one reserved name that rules and raw listeners may use: the router's own figures.
constexpr std::string_view metrics_service = "plumberd.metrics";

/// `*`, a name, or `*.name`: what rules, routes and redirects may say where a service is meant.
Result<> check_service_pattern(std::string_view pattern);
/// Whether `pattern` covers `name` (`*.shop` covers `db.shop` and `a.db.shop`, not `shop`).
bool pattern_covers(std::string_view pattern, std::string_view name);

/// The target that IPC_NETWORKD gives for `service`: the first directive of that name wins. Empty when there
/// is none. Malformed directives for other names are skipped; a malformed one for this name, or a NUL
/// anywhere, is BAD_REQUEST.
Result<std::string> directive_target(std::string_view networkd, std::string_view service);

/// Only the directives of `service`, as they are: what libipc sends, since the others may hold secrets.
std::string directives_of(std::string_view networkd, std::string_view service);

/// Foreign bytes made fit to show: printable ASCII, the rest as \xNN, cut to `limit` bytes of output.
std::string printable(std::string_view foreign, std::size_t limit = 256);

}  // namespace ipc
