// docs/policy.md, run word for word: its configuration is loaded, its commands are run as the users it names.
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <sstream>

#include "tests/e2e/host.hh"

namespace {
struct Line {
  std::string user, command, verb, expected;  ///< verb: "exits" or "prints"
};

std::string trimmed(std::string text) {
  const auto first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

/// "    USER$ COMMAND   # exits N" and "... # prints TEXT".
std::vector<Line> commands_of(const std::string& document) {
  std::vector<Line> lines;
  std::istringstream in{document};
  for (std::string text; std::getline(in, text);) {
    const auto prompt = text.find("$ ");
    const auto mark = text.rfind("  # ");
    if (!text.starts_with("    ") || prompt == std::string::npos || mark == std::string::npos) continue;
    const auto expectation = text.substr(mark + 4);
    const auto blank = expectation.find(' ');
    lines.push_back({trimmed(text.substr(0, prompt)), trimmed(text.substr(prompt + 2, mark - prompt - 2)),
                     expectation.substr(0, blank), expectation.substr(blank + 1)});
  }
  return lines;
}

std::string config_of(const std::string& document) {
  const auto begin = document.find("```toml\n") + 8;
  return document.substr(begin, document.find("```\n", begin) - begin);
}

kit::Outcome run_as(const std::string& user, const std::string& command, const kit::Host& host) {
  const std::map<std::string, unsigned> uids{{"root", 0}, {"alice", 4711}, {"bob", 4712}, {"carol", 4713}};
  const auto bin = kit::binary("plumb");
  return kit::run(
      {.args = {"sh", "-c", command},
       .env = {"IPC_RUNDIR=" + host.rundir(), "PATH=" + bin.substr(0, bin.rfind('/')) + ":/usr/bin:/bin"},
       .uid = uids.at(user),
       .directory = user == "root" ? host.rundir() + "/.." : "/"});
}
}  // namespace

Test(policy_walk, every_command_of_the_document_does_what_it_says) {
  if (::geteuid() != 0) cr_skip("acts as other users: needs root");
  const auto document = kit::read_file(kit::source_dir() + "/docs/policy.md");
  kit::Host host{{}, config_of(document)};
  ::chmod((host.rundir() + "/..").c_str(), 0755);
  ::chmod(host.rundir().c_str(), 01777);
  const auto serve = [&](unsigned uid, const std::string& name) {
    return kit::Command{.args = {kit::binary("plumb"), "--rundir", host.rundir(), "serve", name, "--", "cat"},
                        .uid = uid};
  };
  kit::Process orders{serve(4711, "orders")};
  kit::Process payroll{serve(4712, "payroll")};
  kit::wait_for_socket(host / "orders");
  kit::wait_for_socket(host / "payroll");
  const auto lines = commands_of(document);
  cr_assert_gt(lines.size(), 15U, "the document has commands");
  for (const auto& line : lines) {
    const auto outcome = run_as(line.user, line.command, host);
    const auto said = outcome.output + outcome.error;
    if (line.verb == "exits")
      cr_expect_eq(std::to_string(outcome.status), line.expected, "%s$ %s\n%s", line.user.c_str(),
                   line.command.c_str(), said.c_str());
    else
      cr_expect(said.find(line.expected) != std::string::npos, "%s$ %s\n%s", line.user.c_str(),
                line.command.c_str(), said.c_str());
  }
}
