// plumb connect, plumb ping: asking for a service.
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>

#include "ipc/name.hh"
#include "ipc/rundir.hh"
#include "ipc/uri.hh"
#include "plumb/output.hh"
#include "plumb/program.hh"
#include "plumb/pump.hh"

namespace plumb {
namespace {
using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// A URI in the legacy form is understood, but whoever wrote it should write another.
void warn_of_form(const Request& request) {
  const auto networkd = request.networkd ? request.networkd : ipc::environment_networkd();
  const auto wish = request.is_uri() ? ipc::Result<std::string>{request.subject}
                                     : ipc::directive_target(networkd.value_or(""), request.subject);
  const auto uri = ipc::parse_uri(wish.value_or(""));
  if (uri && !uri->warning.empty()) complain("warning: " + uri->warning);
}

/// `ktls`: we read the socket ourselves, and no other program does.
ipc::Result<ipc::Connection> dial(const Request& request, bool with_decision, bool ktls = false) {
  warn_of_form(request);
  const ipc::ConnectOptions options{
      .timeout = request.patience(), .networkd = request.networkd, .decision = with_decision, .ktls = ktls};
  ipc::Client client{request.rundir};
  return request.is_uri() ? client.connect_uri(request.subject, options)
                          : client.connect(request.subject, options);
}

std::string report(const Request& request, const ipc::Connection& connection, double ms) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add(std::string_view(request.is_uri() ? "uri" : "service"),
                    ipc::mask_secrets(request.subject));
  json.add("path", connection.path).add("labels", connection.labels).key("ms").decimal(ms);
  if (!connection.decision.empty()) json.key("decision").raw(connection.decision);
  json.end();
  return text;
}

/// One byte with the descriptor: what OpenSSH's ProxyUseFdpass reads from its proxy command.
int pass_over_stdout(const Request& request, int socket) {
  const auto sent = ipc::send_with_fds(STDOUT_FILENO, std::string_view("\0", 1), {&socket, 1});
  if (sent && *sent == ipc::Io::done) return 0;
  return fail_with(request, {ipc::Word::bad_request,
                             "--fdpass: standard output is no UNIX socket that takes a descriptor" +
                                 (sent ? std::string{} : " (" + sent.error().text + ")")});
}

int run_on(const Request& request, const ipc::Connection& connection) {
  auto more = std::vector{"PLUMB_PATH=" + connection.path};
  if (!request.is_uri()) more.push_back("PLUMB_SERVICE=" + request.subject);
  return become(request.program, environment_for(connection.labels, std::move(more)), connection.fd.borrow());
}

std::string decision_times(const std::string& decision) {
  auto document = ipc::JsonDocument::parse(decision);
  if (!document) return {};
  const auto ms = document->root()["ms"];
  std::string text;
  for (const char* phase : {"route", "judge", "dial"})
    if (const auto time = ms[phase].real())
      text += (text.empty() ? "" : ", ") + std::string(phase) + " " + shown_ms(*time);
  return text.empty() ? text : " (" + text + ")";
}

int ping_router(const Request& request) {
  const auto start = Clock::now();
  const ipc::Deadline deadline{request.patience()};
  auto router = ipc::find_router(request.rundir, deadline);
  if (!router.door) return fail_with(request, router.door.error());
  const auto answer = router.door->ask("ping", "{}", deadline);  // any answer is one
  if (!answer) return fail_with(request, answer.error());
  const double ms = ms_since(start);
  const auto version = answer->message.result["version"].string_or("");
  std::string text;
  ipc::JsonWriter json{text};
  json.object()
      .add("router", ipc::native_door(router.rundir))
      .add_if("version", version)
      .key("ms")
      .decimal(ms)
      .end();
  put_line(request.json ? text : "router at " + router.rundir + ": answered in " + shown_ms(ms));
  return 0;
}
}  // namespace

int run_connect(const Request& request) {
  const auto start = Clock::now();
  const bool is_ours = !request.fdpass && request.program.empty() && !request.json;
  auto connection = dial(request, request.json, is_ours);
  if (!connection) return fail_with(request, connection.error());
  if (request.json) put_line(report(request, *connection, ms_since(start)));
  if (request.fdpass) return pass_over_stdout(request, connection->fd.borrow());
  if (!request.program.empty()) return run_on(request, *connection);
  if (request.json) return 0;  // standard output holds one value: there is no room for the service's bytes
  const auto carried = pump(connection->fd.borrow());
  return carried ? 0 : fail_with(request, carried.error());
}

int run_ping(const Request& request) {
  if (request.subject.empty()) return ping_router(request);
  const auto start = Clock::now();
  const auto connection = dial(request, true);
  if (!connection) return fail_with(request, connection.error());
  const double ms = ms_since(start);
  put_line(request.json ? report(request, *connection, ms)
                        : ipc::mask_secrets(request.subject) + ": " + connection->path + " in " +
                              shown_ms(ms) + decision_times(connection->decision));
  return 0;
}
}  // namespace plumb
