// Rules of any text: what parses, parses again to the same; the index finds what a scan finds; a rule said to
// be never reached decides nothing.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "plumberd/hidden.hh"
#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(rules)

namespace {
using namespace plumberd;

const std::vector<std::string> schemes{"tcp", "tls", "dtls", "udp", "unix"};

std::vector<ParsedRule> parsed_lines(std::string_view text) {
  constexpr std::size_t most = 64;
  std::vector<ParsedRule> rules;
  while (!text.empty() && rules.size() < most) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    std::size_t column = 0;
    auto rule = parse_rule(line, schemes, &column);
    fuzz::require(rule || (column >= 1 && column <= line.size() + 1), "an error lies in its line");
    fuzz::require(rule || !rule.error().text.empty(), "an error says something");
    if (rule) rules.push_back(std::move(*rule));
  }
  return rules;
}

void check_again(const ParsedRule& rule) {
  const auto again = parse_rule(rule.text, schemes);
  fuzz::require(again.has_value(), "an accepted rule's own text is accepted");
  fuzz::require(again->text == rule.text && again->peer == rule.peer, "and means the same");
}

/// Questions made of the rules' own words come near to matching.
std::vector<Question> questions_of(const ParsedRule& rule, ipc::Address& address) {
  Question question{.direction = rule.direction, .service = rule.service, .scheme = "tcp"};
  for (const auto& selector : rule.peer) {
    if (selector.kind == Selector::Kind::endpoint) question.scheme = selector.scheme;
    if (selector.kind == Selector::Kind::endpoint) question.port = selector.port;
    if (selector.host == Selector::Host::name) question.host = selector.value;
    if (selector.kind == Selector::Kind::unix_path) question.unix_path = selector.value;
    if (selector.kind == Selector::Kind::as_identity) question.identity = selector.value;
    if (selector.host == Selector::Host::network) address = selector.network;
  }
  auto dialled = question;
  dialled.address = &address;
  auto named = dialled;
  named.host_is_name = named.by_client = true;
  return {question, dialled, named};
}

void check_question(const RuleSet& set, const Question& question, const Facts& facts) {
  const auto fast = judge(set, question, facts), slow = judge_naively(set, question, facts);
  fuzz::require(fast.kind == slow.kind && fast.rule == slow.rule && fast.reason == slow.reason,
                "the index finds what a scan finds");
}

void check_set(const std::vector<ParsedRule>& rules) {
  const RuleSet set{rules, {Default::own, Default::deny, Default::own, Default::own}};
  for (const auto& hidden : hidden_rules(set))
    fuzz::require(hidden.by < hidden.rule, "what hides comes before");
  Facts nobody, somebody, remote;
  somebody.uid = 1000;
  somebody.groups = std::vector<gid_t>{1000};
  remote.is_local = false;
  remote.cert_names = {"example.com"};
  for (const auto& rule : rules) {
    ipc::Address address{};
    for (const auto& question : questions_of(rule, address))
      for (const auto* facts : {&nobody, &somebody, &remote}) check_question(set, question, *facts);
  }
}
}  // namespace

int fuzz_rules(const std::uint8_t* data, std::size_t size) {
  const auto rules = parsed_lines({reinterpret_cast<const char*>(data), size});
  for (const auto& rule : rules) check_again(rule);
  check_set(rules);
  return 0;
}
