// Every directory of tests/policy is a configuration, questions and the answers expected; tests/policy/README
// says how to write one. Every file of config/ must load.
#include <algorithm>

#include "plumberd/route.hh"
#include "plumberd/supposed.hh"
#include "tests/unit/source_tree.hh"

using namespace plumberd;

namespace {
std::string next_word(std::istringstream& line) {
  std::string word;
  line >> word;
  return word;
}

std::string outcome(const Verdict& verdict) {
  std::string said = verdict.audited != nullptr ? "audit" : "allow";
  if (verdict.kind == Verdict::Kind::deny) said = "deny";
  if (verdict.kind == Verdict::Kind::need) said = "undecided";
  return said + " " + (verdict.rule != nullptr ? verdict.rule->at() : verdict.reason);
}

/// One case: a loaded configuration that answers questions.
class Case {
 public:
  explicit Case(const std::filesystem::path& directory)
      : loaded_{load_text(testing::contents(directory / "plumberd.toml"), "plumberd.toml", {},
                          Strictness::check)} {}

  std::string answer(const std::string& question) {
    std::istringstream line{question};
    const auto verb = next_word(line);
    if (verb == "load") return load();
    if (loaded_.config == nullptr) return "the configuration does not load";
    if (verb == "offer") return offered_.push_back(next_word(line)), "";
    if (verb == "route") return route(line, false);
    if (verb == "outside") return route(line, true);
    if (verb == "uri") return route({.uri = next_word(line)});
    const auto direction = direction_from(verb);
    return direction ? judge(*direction, line) : "unknown verb " + verb;
  }

 private:
  std::string load() const {
    std::string said;
    for (const auto& d : loaded_.diagnostics) {
      auto shown = d;
      shown.source.clear();
      said += (said.empty() ? "" : "\n") + shown.print();
    }
    return said.empty() ? "good" : said;
  }

  std::string route(std::istringstream& line, bool outside) {
    RouteQuestion question{.service = next_word(line), .from_outside = outside};
    next_word(line);  // "with"
    std::getline(line >> std::ws, question.networkd);
    return route(std::move(question));
  }

  std::string route(RouteQuestion question) {
    question.is_local = [this](auto name) { return std::ranges::find(offered_, name) != offered_.end(); };
    const auto routed = plumberd::route(*loaded_.config, question);
    if (!routed) return std::string(to_string(routed.error().word));
    std::string said;
    for (const auto& t : routed->targets) {
      const auto to = t.kind == Target::Kind::local ? "here" : ipc::to_string(t.uri);
      said += (said.empty() ? "" : ", ") + t.service + " " + to;
    }
    return said;
  }

  /// DIRECTION SERVICE PEER [as SELECTORS] [at ADDRESS]
  std::string judge(Direction direction, std::istringstream& line) {
    const auto service = next_word(line), peer = next_word(line);
    std::string as = "user:root", at;
    for (auto word = next_word(line); !word.empty(); word = next_word(line))
      (word == "as" ? as : at) = next_word(line);
    const std::vector<std::string> schemes{"tcp", "tls", "dtls", "udp", "unix", "tor"};
    auto supposed = suppose(as, direction, service, peer, schemes, 999, principals_);
    if (!supposed) return "error: " + supposed.error().text;
    auto question = supposed->question();
    const auto address = ipc::parse_address(at);
    if (address) question.address = &*address;
    return outcome(plumberd::judge(*loaded_.config->rules, question, supposed->facts));
  }

  Loaded loaded_;
  std::vector<std::string> offered_{};
  Principals principals_{};
};

void run(const std::filesystem::path& directory) {
  Case policy{directory};
  std::string said;
  for (const auto& question : testing::lines_of(directory / "ask"))
    if (const auto answer = policy.answer(question); !answer.empty()) said += answer + "\n";
  std::string expected;
  for (const auto& line : testing::lines_of(directory / "expect")) expected += line + "\n";
  cr_expect(said == expected, "%s: expected\n%sbut it is\n%s", directory.filename().c_str(), expected.c_str(),
            said.c_str());
}
}  // namespace

Test(policy_cases, all_directories_answer_as_expected) {
  int cases = 0;
  for (const auto& entry : testing::sorted_entries(testing::source_tree() / "tests/policy")) {
    if (!std::filesystem::is_directory(entry)) continue;
    run(entry);
    ++cases;
  }
  cr_assert(cases >= 10);
}

Test(policy_cases, all_example_configurations_load_without_a_warning) {
  int files = 0;
  for (const auto& file : testing::sorted_entries(testing::source_tree() / "config")) {
    if (file.extension() != ".toml") continue;
    const auto loaded = load_text(testing::contents(file), file.string(), {}, Strictness::check);
    for (const auto& d : loaded.diagnostics) cr_expect_fail("%s", d.print().c_str());
    cr_expect(loaded.config != nullptr);
    ++files;
  }
  cr_assert(files >= 5);
}

Test(policy_cases, every_commented_setting_of_the_annotated_file_is_a_real_one) {
  std::istringstream file{testing::contents(testing::source_tree() / "config/plumberd.toml")};
  std::string text;
  for (std::string line; std::getline(file, line);) {
    const bool example = line.size() > 1 && line[0] == '#' && (line[1] != ' ' || line.starts_with("#  \""));
    if (line == "rules = []" || line == "pinned = []") continue;  // given again as an example
    text += (example ? line.substr(1) : line) + "\n";
  }
  const auto loaded = load_text(text, "plumberd.toml", {}, Strictness::check);
  for (const auto& d : loaded.diagnostics) cr_expect_fail("%s", d.print().c_str());
  cr_assert(loaded.config != nullptr && loaded.config->rules->rules().size() == 6);
}
