#include "plumb/cli.hh"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>

#include "ipc/name.hh"
#include "ipc/nearest.hh"

namespace plumb {
namespace {
void add_common(CLI::App& app, Request& request) {
  app.add_flag("--json", request.json, "exactly one JSON value on standard output");
  app.add_option("--rundir", request.rundir, "run directory of the router")->type_name("DIR");
}

/// CLI::Range lets "nan" through.
CLI::Validator is_number() {
  return {[](const std::string& text) {
            return text.find_first_not_of("+-.0123456789eE") == text.npos ? "" : text + " is no number";
          },
          ""};
}

void add_timeout(CLI::App& app, Request& request) {
  app.add_option("--timeout", request.timeout, "seconds to wait (30)")
      ->check(is_number())
      ->check(CLI::Range(0.001, 86'400.0))
      ->type_name("SECONDS");
}

void add_networkd(CLI::App& app, Request& request) {
  app.add_option("--networkd", request.networkd, "instead of $IPC_NETWORKD")->type_name("VALUE");
}

/// An empty variable of a script is no wish.
CLI::Validator not_empty() {
  return {[](const std::string& name) { return name.empty() ? "is empty" : ""; }, ""};
}

void add_subject(CLI::App& app, Request& request, const char* what, bool required) {
  auto* subject = app.add_option(what, request.subject, required ? "" : "the router itself when absent");
  subject->type_name("")->required(required)->check(not_empty());
}

void add_connect(CLI::App& app, Request& request) {
  add_subject(app, request, "SERVICE|URI", true);
  app.add_flag("--fdpass", request.fdpass, "pass the socket over standard output (OpenSSH's ProxyUseFdpass)");
  add_networkd(app, request);
  add_timeout(app, request);
}

void add_serve(CLI::App& app, Request& request) {
  add_subject(app, request, "NAME", true);
  app.add_flag("--shared", request.shared, "share the name with other processes of this user");
  app.add_option("--max", request.max_children, "programs at a time (64); further connections wait")
      ->check(CLI::Range(1, 100'000))
      ->type_name("N");
  app.add_option("--idle", request.idle, "silence that ends datagrams (60); 0: none does")
      ->check(is_number())
      ->check(CLI::Range(0.0, 86'400.0))
      ->type_name("SECONDS");
}

void add_ping(CLI::App& app, Request& request) {
  add_subject(app, request, "SERVICE|URI", false);
  add_networkd(app, request);
  add_timeout(app, request);
}

void add_explain(CLI::App& app, Request& request) {
  add_subject(app, request, "SERVICE|URI", true);
  add_networkd(app, request);
  app.add_option("--as", request.as, "explain for somebody else, as in user:alice,exe:/usr/bin/x")
      ->type_name("SELECTORS");
  auto* inbound = app.add_flag("--in", request.inbound, "explain a request from another host");
  auto* from = app.add_option("--from", request.from, "the other host, as in tls:web.example.com")
                   ->type_name("SCHEME:HOST");
  inbound->needs(from);
  from->needs(inbound);
}

void add_reload(CLI::App& app, Request& request) {
  app.add_option("--confirm", request.confirm_seconds, "go back unless confirmed within this time")
      ->check(CLI::Range(1, 86'400))
      ->type_name("SECONDS");
}

void add_events(CLI::App& app, Request& request) {
  app.add_option("--since", request.since, "only later ones than this id or time (RFC 3339, UTC)")
      ->type_name("ID|TIME");
  app.add_option("--count", request.count, "of the past, only the last so many")
      ->check(CLI::Range(0, 1'000'000))
      ->type_name("N");
  app.add_flag("-f,--follow", request.follow, "and those to come, until interrupted");
}

void add_ca(CLI::App& app, Request& request) {
  app.add_option("ACTION", request.action, "init, issue or revoke")
      ->type_name("")
      ->required()
      ->check(CLI::IsMember({"init", "issue", "revoke"}));
  app.add_option("NAME", request.subject,
                 "a host name, address or user name (init: of the authority; revoke: none renews the list)")
      ->type_name("")
      ->check(not_empty());
  app.add_option("--name", request.names, "a further host name or address in the certificate")
      ->type_name("NAME")
      ->allow_extra_args(false);
  app.add_flag("--client", request.for_client, "for dialling only");
  app.add_flag("--server", request.for_server, "for listening only");
  app.add_option("--days", request.days, "how long it is valid")
      ->check(CLI::Range(1, 36'500))
      ->type_name("N");
  app.add_option("--dir", request.directory, "directory of the authority (plumb-ca)")->type_name("DIR");
  app.add_flag("--force", request.force, "replace a certificate of the same name, and revoke it");
}

void add_psk(CLI::App& app, Request& request) {
  app.add_option("ACTION", request.action, "new")->type_name("")->required()->check(CLI::IsMember({"new"}));
  app.add_option("IDENTITY", request.subject, "whose key it will be")->type_name("")->check(not_empty());
}

using AddOptions = void (*)(CLI::App&, Request&);
AddOptions options_of(std::string_view command) {
  constexpr std::pair<std::string_view, AddOptions> table[] = {
      {"connect", add_connect}, {"serve", add_serve},   {"ping", add_ping}, {"explain", add_explain},
      {"reload", add_reload},   {"events", add_events}, {"ca", add_ca},     {"psk", add_psk}};
  for (const auto& [name, add] : table)
    if (name == command) return add;
  return [](CLI::App&, Request&) {};
}

std::string indented(std::string_view text) {
  std::string out = "  ";
  for (const char c : text) out += c == '\n' ? std::string("\n  ") : std::string(1, c);
  return out;
}

void add_command(CLI::App& app, const Command& command, Request& request) {
  auto* sub = app.add_subcommand(std::string(command.name), std::string(command.summary));
  sub->footer("example:\n" + indented(command.example));
  options_of(command.name)(*sub, request);
  add_common(*sub, request);
  sub->callback([&request, name = command.name] { request.command = name; });
}

/// CLI11 knows no text instead of its usage line before 2.4, so the first line is ours.
class Formatter : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App* app, std::string /*name*/) const override {
    const auto* command = find_command(app->get_name());
    if (command == nullptr) return "usage: plumb COMMAND [OPTION...] [ARGUMENT...]\n";
    return fmt_usage(*command);
  }

 private:
  static std::string fmt_usage(const Command& command) {
    std::string line = "usage: plumb " + std::string(command.name);
    if (!command.synopsis.empty()) line += " " + std::string(command.synopsis);
    return line + "\n";
  }
};

/// The program after "--"; `arguments` keeps the rest.
std::vector<std::string> split_program(std::vector<std::string>& arguments) {
  const auto dashes = std::ranges::find(arguments, "--");
  if (dashes == arguments.end()) return {};
  std::vector<std::string> program(dashes + 1, arguments.end());
  arguments.erase(dashes, arguments.end());
  return program;
}

std::unexpected<Stop> misused(const Request& request, const std::string& what) {
  const auto command = request.command.empty() ? std::string{} : " " + request.command;
  return std::unexpected(Stop{2, what + "; see `plumb" + command + " --help`"});
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& names) {
  const std::vector<std::string_view> known(names.begin(), names.end());
  const auto near = ipc::nearest(word, known);
  return near.empty() ? "" : "; did you mean \"" + std::string(near) + "\"?";
}

std::string no_such_option(const CLI::App& app, const std::string& given) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return "there is no option \"" + ipc::printable(given, 64) + "\"" +
         did_you_mean(given.substr(0, given.find('=')), names);
}

std::string no_such_command(const std::string& given) {
  std::vector<std::string> names;
  for (const auto& command : commands()) names.emplace_back(command.name);
  return "there is no command \"" + ipc::printable(given, 64) + "\"" + did_you_mean(given, names);
}

/// CLI11 says that something is missing, where there is a word that it does not know.
std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const auto& where = chosen.empty() ? app : *chosen.front();
  const auto left_over = app.remaining(true);
  const auto option = std::ranges::find_if(left_over, [](const auto& word) { return word.starts_with('-'); });
  if (option != left_over.end()) return no_such_option(where, *option);
  if (chosen.empty() && !left_over.empty()) return no_such_command(left_over.front());
  return error.what();
}

std::expected<Request, Stop> checked(Request request, bool dashes) {
  const bool takes_program = request.command == "connect" || request.command == "serve";
  if (dashes && !takes_program)
    return misused(request, "\"" + request.command + "\" runs no program after \"--\"");
  if (dashes && request.program.empty()) return misused(request, "no program after \"--\"");
  if (request.command == "serve" && !dashes) return misused(request, "serve needs -- COMMAND");
  if (request.fdpass && (dashes || request.json))
    return misused(request, "--fdpass goes with neither --json nor a program");
  return request;
}
}  // namespace

std::expected<Request, Stop> parse_command_line(std::vector<std::string> arguments) {
  Request request;
  const bool dashes = std::ranges::find(arguments, "--") != arguments.end();
  request.program = split_program(arguments);
  CLI::App app{"plumb asks plumberd for connections, offers services, and shows what the router does.",
               "plumb"};
  app.formatter(std::make_shared<Formatter>());
  app.require_subcommand(1);
  app.footer("`plumb COMMAND --help` has an example of each; plumb(1) has the exit statuses.");
  add_common(app, request);
  for (const auto& command : commands()) add_command(app, command, request);
  std::ranges::reverse(arguments);  // as CLI11 wants them
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app.get_subcommands();
    return std::unexpected(Stop{0, (chosen.empty() ? &app : chosen.front())->help()});
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    if (!chosen.empty()) request.command = chosen.front()->get_name();
    return misused(request, what_is_wrong(app, error));
  }
  return checked(std::move(request), dashes);
}
}  // namespace plumb
