#include "ipc/client.hh"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "ipc/name.hh"
#include "ipc/rundir.hh"

namespace ipc {
namespace {
std::string with_options(std::string& params, JsonWriter& writer, const ConnectOptions& options) {
  if (!options.labels.empty()) writer.add("labels", options.labels);
  if (options.decision) writer.add("decision", true);
  if (options.ktls) writer.add("ktls", true);
  writer.end();
  return std::move(params);
}

std::string service_params(std::string_view service, const std::optional<std::string>& networkd,
                           const ConnectOptions& options) {
  std::string params;
  JsonWriter writer{params};
  writer.object().add("service", service);
  if (networkd) writer.add("networkd", directives_of(*networkd, service));
  return with_options(params, writer, options);
}

std::string uri_params(std::string_view uri, const ConnectOptions& options) {
  std::string params;
  JsonWriter writer{params};
  writer.object().add("uri", uri);
  return with_options(params, writer, options);
}

Result<Connection> connection_from(Door::Incoming answer) {
  const auto result = answer.message.result;
  Connection connection{.fd = TRY(answer.take_fd())};
  connection.path = result["path"].string_or("");
  connection.labels = result["labels"].labels();
  if (result["decision"].exists()) connection.decision = result["decision"].text();
  return connection;
}

/// There is no router: nobody judges, the socket's mode decides.
Result<Connection> connect_directly(const std::string& rundir, std::string_view service,
                                    const Error& no_router, const Deadline& deadline) {
  auto socket = connect_unix(rundir + "/" + std::string(service), SOCK_STREAM, deadline);
  if (!socket && socket.error().word == Word::no_router)
    return fail(Word::no_router,
                no_router.text + "; and the service itself is not there either: " + socket.error().text);
  if (!socket) return std::unexpected(std::move(socket).error());
  return Connection{.fd = std::move(*socket), .path = "direct", .labels = {{"scheme", "unix"}}};
}
}  // namespace

std::optional<std::string> environment_networkd() {
  for (const char* name : {"IPC_NETWORKD", "IPC_NETWORK"})
    if (const char* value = ::secure_getenv(name)) return value;
  return std::nullopt;
}

bool Client::has_kept_door() const { return door_ && opener_ == ::getpid(); }

Result<> Client::ensure_door(const Deadline& deadline) {
  if (has_kept_door()) return {};
  door_.reset();
  auto router = find_router(rundir_, deadline);
  found_ = std::move(router.rundir);
  door_ = TRY(std::move(router.door));
  opener_ = ::getpid();
  return {};
}

/// `absent` becomes true when nobody answers where a router would be; a router that hangs up is not absent.
Result<Connection> Client::dial(const std::string& params, const Deadline& deadline, bool& absent) {
  const bool kept = has_kept_door();
  if (const auto opened = ensure_door(deadline); !opened) {
    absent = opened.error().word == Word::no_router;
    return std::unexpected(opened.error());
  }
  auto answer = door_->call("connect", params, deadline);
  if (answer) return connection_from(std::move(*answer));
  if (answer.error().word == Word::no_router) {
    door_.reset();
    if (kept) return dial(params, deadline, absent);  // once: nothing is kept any more
  }
  return std::unexpected(std::move(answer).error());
}

Result<Connection> Client::connect(std::string_view service, const ConnectOptions& options) {
  TRY(check_service_name(service));
  const Deadline deadline{options.timeout};
  const auto networkd = options.networkd ? options.networkd : environment_networkd();
  if (networkd) TRY(directive_target(*networkd, service));
  bool absent = false;
  auto connection = dial(service_params(service, networkd, options), deadline, absent);
  if (connection || networkd || !absent) return connection;
  return connect_directly(found_, service, connection.error(), deadline);
}

Result<Connection> Client::connect_uri(std::string_view uri, const ConnectOptions& options) {
  bool absent = false;
  return dial(uri_params(uri, options), Deadline{options.timeout}, absent);
}

Result<Connection> connect(std::string_view service, const ConnectOptions& options) {
  return Client{}.connect(service, options);
}

Result<Connection> connect_uri(std::string_view uri, const ConnectOptions& options) {
  return Client{}.connect_uri(uri, options);
}
}  // namespace ipc
