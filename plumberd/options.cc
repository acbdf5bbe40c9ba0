#include "plumberd/options.hh"

#include <CLI/CLI.hpp>

#include <iostream>

namespace plumberd {
namespace {
constexpr const char* examples = R"(Examples:
  plumberd --allow in authd tls:example.com --deny in '*' '*'
  plumberd --allow out pong tls:pong.example.com:9000 --redirect authd nextversion-authd
  plumberd --config /etc/plumberd/plumberd.toml --check

See plumberd(8) and plumberd.toml(5).)";

using Kind = Arguments::Item::Kind;

/// Repeatable options keep the order in which they stand on the command line, across their kinds.
void add_item(CLI::App& app, Options& options, const std::string& name, Kind kind, int words,
              const char* type, const char* help) {
  const auto keep = [&options, kind](const CLI::results_t& given) {
    options.arguments.items.push_back({kind, {given.begin(), given.end()}});
    return true;
  };
  app.add_option(name, keep, help)
      ->expected(words)
      ->type_size(words)
      ->type_name(type)
      ->trigger_on_parse()
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
}

void add_items(CLI::App& app, Options& options) {
  add_item(app, options, "--allow", Kind::allow, 3, "DIRECTION SERVICE PEER",
           "a rule that allows; first match wins");
  add_item(app, options, "--deny", Kind::deny, 3, "DIRECTION SERVICE PEER", "a rule that denies");
  add_item(app, options, "--audit", Kind::audit, 3, "DIRECTION SERVICE PEER",
           "record \"would deny\", let through");
  add_item(app, options, "--redirect", Kind::redirect, 2, "NAME TARGET",
           "what is asked as NAME goes to TARGET");
  add_item(app, options, "--route", Kind::route, 2, "NAME TARGET", "where the service NAME is");
  add_item(app, options, "--listen", Kind::listen, 1, "URI", "accept connections of other hosts at URI");
}

/// A rule on the command line takes exactly three words. When the shell expanded a `*`, more of them stand
/// there.
std::string usage_hint(const std::string& what) {
  const bool stray = what.find("were not expected") != what.npos;
  return stray ? what + "\n(if a * was meant, the shell has expanded it: quote the *)" : what;
}

const std::map<std::string, LogLevel> levels{{"error", LogLevel::error},
                                             {"warn", LogLevel::warn},
                                             {"info", LogLevel::info},
                                             {"debug", LogLevel::debug}};
const std::map<std::string, LogFormat> formats{
    {"text", LogFormat::text}, {"json", LogFormat::json}, {"journal", LogFormat::journal}};

void add_options(CLI::App& app, Options& options) {
  add_items(app, options);
  app.add_option("--config", options.arguments.config, "read this file and no other")->type_name("FILE");
  app.add_flag("--check", options.check, "check the configuration and exit: 0, or 7 with every error");
  app.add_option("--rundir", options.rundir, "the run directory")->type_name("DIR");
  const auto level = [&options](const std::string& name) { options.log_level = levels.at(name); };
  const auto format = [&options](const std::string& name) { options.log_format = formats.at(name); };
  app.add_option_function<std::string>("--log-level", level, "error, warn, info or debug")
      ->type_name("LEVEL")
      ->check(CLI::IsMember({"error", "warn", "info", "debug"}).description(""));
  app.add_option_function<std::string>("--log-format", format, "text, json or journal")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json", "journal"}).description(""));
  app.set_version_flag("--version", "plumberd " PLUMBERD_VERSION);
  app.footer(examples);
}
}  // namespace

std::expected<Options, int> parse_options(int argc, char** argv) {
  Options options;
  CLI::App app{"plumberd routes connection requests, judges them, and hands back connected sockets.",
               "plumberd"};
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& done) {
    return std::unexpected(app.exit(done));
  } catch (const CLI::ParseError& error) {
    std::cerr << "plumberd: " << usage_hint(error.what()) << "\nTry plumberd --help\n";
    return std::unexpected(2);
  }
  return options;
}
}  // namespace plumberd
