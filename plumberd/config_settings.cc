// [defaults], [limits], [admin], [[test]], and what the command line says.
#include <algorithm>
#include <array>

#include "plumberd/draft.hh"
#include "plumberd/nearest.hh"

namespace plumberd {
namespace {
void read_defaults(Draft& draft, Fields fields) {
  constexpr std::array<std::string_view, 3> values{"allow", "deny", "own"};
  for (std::size_t d = 0; d < direction_count; ++d) {
    const auto key = to_string(static_cast<Direction>(d));
    std::string text;
    fields.string(key, text);
    if (text.empty()) continue;
    const auto* found = std::ranges::find(values, text);
    if (found == values.end())
      fields.wrong(*fields.take(key), quoted(text) + " is no default" + remedy_for(text, values));
    else
      draft.defaults[d] = static_cast<Default>(found - values.begin());
  }
  std::string detail;
  fields.string("denied_detail", detail);
  if (!detail.empty() && detail != "rule" && detail != "word")
    fields.wrong(*fields.take("denied_detail"), quoted(detail) + " is no detail; write \"rule\" or \"word\"");
  if (!detail.empty()) draft.config.denied_detail = detail == "rule";
  fields.finish();
}

void read_limits(Limits& limits, Fields fields) {
  constexpr unsigned most = 1'000'000;
  fields.integer("requests_per_second", limits.requests_per_second, 0, most);
  fields.integer("connections", limits.connections, 1, most);
  fields.integer("pending_requests", limits.pending_requests, 1, most);
  fields.duration("request_timeout", limits.request_timeout);
  fields.duration("hop_timeout", limits.hop_timeout);
  fields.finish();
}

void read_admin(Draft& draft, Fields fields) {
  fields.strings("users", draft.config.admin_users);
  fields.strings("groups", draft.config.admin_groups);
  fields.finish();
  if (const auto* users = fields.take("users")) {
    for (const auto& user : users->items) {
      if (const auto uid = draft.principals.user(user.text))
        draft.config.admin_uids.push_back(*uid);
      else
        report_unknown(draft, "user", user.text, fields.place(user));
    }
  }
  if (const auto* groups = fields.take("groups")) {
    for (const auto& group : groups->items) {
      if (const auto gid = draft.principals.group(group.text))
        draft.config.admin_gids.push_back(*gid);
      else
        report_unknown(draft, "group", group.text, fields.place(group));
    }
  }
}

void read_test(Draft& draft, Fields fields) {
  PolicyTest test;
  fields.string("as", test.as);
  fields.string("direction", test.direction);
  fields.string("service", test.service);
  fields.string("peer", test.peer);
  fields.string("expect", test.expect);
  fields.finish();
  const auto place = fields.place(fields.table());
  if (!direction_from(test.direction))
    return draft.report.error(
        place, "a [[test]] needs a direction; write direction = \"out\", \"in\", \"local\" or \"serve\"");
  if (test.service.empty())
    return draft.report.error(place, "a [[test]] needs a service; write service = \"NAME\"");
  if (test.expect != "allow" && test.expect != "deny" && test.expect != "audit")
    return draft.report.error(
        place, "a [[test]] needs an expectation; write expect = \"allow\", \"deny\" or \"audit\"");
  test.at = place.at();
  draft.config.tests.push_back(std::move(test));
  draft.test_places.push_back(place);
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += " " + word;
  return text;
}

/// A rule's words, each one argument: a blank inside of one is as wrong as a missing one.
void add_argument_rule(Draft& draft, std::string_view action, const std::vector<std::string>& words,
                       const Place& place) {
  const auto blank = [](const auto& word) { return word.empty() || word.find_first_of(" \t") != word.npos; };
  if (words.size() != 3 || std::ranges::any_of(words, blank))
    return draft.report.error(place, "--" + std::string(action) +
                                         " takes three words, DIRECTION SERVICE PEER, without "
                                         "blanks; where a * is one of them, quote the *");
  add_rule(draft, std::string(action) + joined(words), place);
}

std::string_view name_of(Arguments::Item::Kind kind) {
  constexpr std::array<std::string_view, 6> names{"allow", "deny", "audit", "redirect", "route", "listen"};
  return names[static_cast<std::size_t>(kind)];
}

void add_argument(Draft& draft, const Arguments::Item& item, const Place& place) {
  using enum Arguments::Item::Kind;
  const auto& words = item.words;
  const bool is_rule = item.kind == allow || item.kind == deny || item.kind == audit;
  if (is_rule) return add_argument_rule(draft, to_string(static_cast<Action>(item.kind)), words, place);
  if (words.size() != (item.kind == listen ? 1U : 2U))
    return draft.report.error(
        place, item.kind == listen
                   ? "--listen takes one URI"
                   : "--redirect and --route take NAME TARGET; where a * is one of them, quote the *");
  if (item.kind == listen) return add_listen(draft, {.uri = words[0]}, place);
  if (item.kind == route) return add_route(draft, words[0], {.targets = {words[1]}}, place);
  const bool by_uri = words[0].find("://") != std::string::npos;
  add_redirect(draft, {.from = words[0], .to = words[1], .by_uri = by_uri}, place, place);
}
}  // namespace

void read_settings(Draft& draft, const Document& document, Fields& root) {
  if (const auto* node = root.take("defaults"))
    read_defaults(draft, {document, *node, "[defaults]", draft.report});
  if (const auto* node = root.take("limits"))
    read_limits(draft.config.limits, {document, *node, "[limits]", draft.report});
  if (const auto* node = root.take("admin")) read_admin(draft, {document, *node, "[admin]", draft.report});
  const auto* tests = root.take("test");
  if (tests == nullptr) return;
  for (const auto& item : tests->kind == Node::Kind::array ? tests->items : std::vector{*tests})
    read_test(draft, {document, item, "[[test]]", draft.report});
}

void read_arguments(Draft& draft, const Arguments& arguments) {
  std::vector<std::string> shown;
  for (const auto& item : arguments.items)
    shown.push_back("--" + std::string(name_of(item.kind)) + joined(item.words));
  draft.report.arguments(std::move(shown));
  for (std::size_t i = 0; i < arguments.items.size(); ++i)
    add_argument(draft, arguments.items[i], Place{.argument = i + 1});
}
}  // namespace plumberd
