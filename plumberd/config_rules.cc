// Rules of a configuration: read, tied to users and groups, filed.
#include "plumberd/draft.hh"

namespace plumberd {
namespace {
/// Gives users and groups their numbers; one that does not exist keeps none: an unknown fact.
void resolve(Draft& draft, ParsedRule& rule, const Place& place) {
  for (auto& selector : rule.peer) {
    if (selector.id) continue;
    if (selector.kind == Selector::Kind::user) {
      selector.id = draft.principals.user(selector.value);
      if (!selector.id) report_unknown(draft, "user", selector.value, place);
    }
    if (selector.kind == Selector::Kind::group) {
      selector.id = draft.principals.group(selector.value);
      if (!selector.id) report_unknown(draft, "group", selector.value, place);
    }
  }
}

/// Where the shell has put a file's name in the place of a *, what stands in the peer column is no selector.
std::string with_star_hint(std::string text, bool from_shell, bool in_peer) {
  if (!from_shell || !in_peer) return text;
  return text + "; if a * stood here, the shell replaced it by a file's name: quote the *";
}
}  // namespace

void report_unknown(Draft& draft, std::string_view what, std::string_view name, const Place& place) {
  auto text = "there is no " + std::string(what) + " " + quoted(name);
  if (draft.strictness == Strictness::check)
    return draft.report.error(place, text + "; create it, correct the name or write its number");
  draft.report.warning(place, text +
                                  " (yet); until the next reload it is an unknown fact, which satisfies deny "
                                  "and never allow; create it and reload");
}

void add_rule(Draft& draft, std::string_view text, const Place& place) {
  constexpr std::size_t most = std::size_t{1} << 24;
  std::size_t column = 1;
  auto rule = parse_rule(text, draft.schemes, &column);
  Place exact = place;
  exact.offset += column - 1;
  if (!rule)
    return draft.report.error(exact, with_star_hint(std::move(rule.error().text), place.source == nullptr,
                                                    column - 1 > text.rfind(' ')));
  if (draft.rule_places.size() == most) return draft.report.error(place, "more than 2^24 rules; merge some");
  resolve(draft, *rule, place);
  rule->file = place.source != nullptr ? place.source->name() : "command line";
  rule->line = static_cast<std::uint32_t>(place.source != nullptr ? place.source->position(place.offset).line
                                                                  : place.argument);
  draft.rules.add(*rule);
  draft.rule_places.push_back(place);
}

void read_rules(Draft& draft, const Document& document, Fields& root) {
  const auto* node = root.take("rules");
  for (const auto& rule : document.rules)
    add_rule(draft, rule.text, {.source = document.source, .offset = rule.offset});
  if (node == nullptr) return;
  if (node->kind != Node::Kind::array)
    return root.wrong(*node, "\"rules\" must be a list of strings; write rules = [\"allow out * *\"]");
  for (const auto& item : node->items) {
    if (item.kind != Node::Kind::string) {
      root.wrong(item, "a rule is a string; write \"ACTION DIRECTION SERVICE PEER\"");
      continue;
    }
    add_rule(draft, item.text, {.source = document.source, .offset = item.offset + 1});
  }
}
}  // namespace plumberd
