#include "plumberd/options.hh"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <iostream>

#include "ipc/name.hh"
#include "plumberd/nearest.hh"

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

std::string no_such_option(const CLI::App& app, const std::string& given) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  const std::vector<std::string_view> known(names.begin(), names.end());
  const auto near = nearest(given.substr(0, given.find('=')), known);
  return "there is no option " + ipc::printable(given, 64) +
         (near.empty() ? "" : "; did you mean " + std::string(near) + "?");
}

/// An option takes exactly as many words as it says. When the shell expanded a `*`, more of them stand there.
std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
  const auto left_over = app.remaining();
  const auto option = std::ranges::find_if(left_over, [](const auto& word) { return word.starts_with('-'); });
  if (option != left_over.end()) return no_such_option(app, *option);
  if (left_over.empty()) return error.what();
  std::string words;
  for (const auto& word : left_over) words += " " + ipc::printable(word, 64);
  return "not expected:" + words + "\n(if a * was meant, the shell has expanded it: quote the *)";
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
    std::cerr << "plumberd: " << what_is_wrong(app, error) << "\nTry plumberd --help\n";
    return std::unexpected(2);
  }
  return options;
}
}  // namespace plumberd
