// The configuration from the command line alone. Goes when config.cc defines load() and reads files.
#include "plumberd/config.hh"

namespace plumberd {
namespace {
using Kind = Arguments::Item::Kind;

void add_rule(std::vector<ParsedRule>& rules, const Arguments::Item& item, unsigned number, Loaded& loaded) {
  const std::string action = item.kind == Kind::allow ? "allow" : item.kind == Kind::deny ? "deny" : "audit";
  auto rule = parse_rule(action + " " + item.words[0] + " " + item.words[1] + " " + item.words[2],
                         {"tcp", "tls", "dtls", "udp", "unix"});
  if (!rule)
    return loaded.diagnostics.push_back({.file = "command line", .line = number, .text = rule.error().text});
  rule->file = "command line";
  rule->line = number;
  rules.push_back(std::move(*rule));
}
}  // namespace

std::string Diagnostic::print() const { return file + ":" + std::to_string(line) + ": error: " + text; }

Loaded load(const Arguments& arguments, Strictness) {
  Loaded loaded{.config = std::make_shared<Config>()};
  std::vector<ParsedRule> rules;
  unsigned number = 0;
  for (const auto& item : arguments.items) {
    const auto at = "command line:" + std::to_string(++number);
    if (item.kind == Kind::listen)
      loaded.config->listens.push_back({.uri = item.words[0], .at = at});
    else if (item.kind == Kind::route)
      loaded.config->routes[item.words[0]] = {.targets = {item.words[1]}, .at = at};
    else if (item.kind == Kind::redirect)
      loaded.config->redirects.push_back({.from = item.words[0], .to = item.words[1], .at = at});
    else
      add_rule(rules, item, number, loaded);
  }
  loaded.config->rules = std::make_shared<RuleSet>(
      rules, RuleSet::Defaults{Default::own, Default::deny, Default::own, Default::own});
  if (!loaded.diagnostics.empty()) loaded.config.reset();
  return loaded;
}
}  // namespace plumberd
