// What plumb shows: explain, events, ls, rules, reload, ping, and the completion of its command line.
#include <criterion/criterion.h>

#include <sstream>
#include <thread>

#include "tests/e2e/plumb_kit.hh"

using namespace std::chrono_literals;
using kit::has, kit::json_of, kit::plumb, kit::Scripted;

namespace {
constexpr std::string_view denied_decision =
    R"({"id":7,"time":"2026-01-01T00:00:00.000Z","generation":1,"direction":"out","asked":"pong","opened":"pong2",)"
    R"("client":{"uid":0,"gid":0,"pid":9},"peer":"tcp://h:1","steps":[{"kind":"redirect","from":"pong","to":"pong2",)"
    R"("at":"plumberd.toml:4"},{"kind":"route","from":"pong2","to":"tcp://h:1","at":"plumberd.toml:9"}],)"
    R"("verdict":"deny","rule":{"text":"deny out * *","at":"plumberd.toml:3"},"code":"DENIED","message":"no"})";

/// Answers one request on a connection of its own with a result.
struct OneAnswer {
  Scripted scripted{};
  std::string request{};
  std::jthread router;
  explicit OneAnswer(std::string result)
      : router{[this, result] {
          auto wire = scripted.accept();
          const auto asked = wire.receive();
          request = asked.text;
          wire.answer(asked, result);
        }} {}
};
}  // namespace

Test(plumb_show, explain_is_a_numbered_list_and_exits_as_the_request_would) {
  OneAnswer once{std::string(denied_decision)};
  auto command = plumb({"explain", "pong", "--as", "user:alice"});
  command.env = {"IPC_NETWORKD=x y;pong tcp://h:1"};
  const auto outcome = kit::run(command);
  once.router.join();
  cr_assert_eq(outcome.status, 1, "%s", outcome.error.c_str());
  cr_assert(has(once.request, R"("params":{"service":"pong","networkd":"pong tcp://h:1","as":"user:alice"})"),
            "%s", once.request.c_str());
  cr_assert(has(outcome.output,
                "  1.  redirect  pong -> pong2       [plumberd.toml:4]\n"
                "  2.  route     pong2 -> tcp://h:1  [plumberd.toml:9]\n"),
            "%s", outcome.output.c_str());
  cr_assert(has(outcome.output, "verdict  deny by \"deny out * *\" [plumberd.toml:3]\n"), "%s",
            outcome.output.c_str());
}

Test(plumb_show, explain_json_is_the_decision) {
  OneAnswer once{std::string(denied_decision)};
  const auto outcome = kit::run(plumb({"explain", "pong", "--in", "--from", "tls:h", "--json"}));
  once.router.join();
  cr_assert_eq(outcome.status, 1);
  cr_assert_eq(json_of(outcome).root()["verdict"].string_or(""), "deny");
  cr_assert(has(once.request, R"("params":{"service":"pong","direction":"in","from":"tls:h"})"));
}

Test(plumb_show, ls_is_a_table) {
  OneAnswer once{
      R"({"services":[{"name":"pong","owner":0,"guarded":true},{"name":"a.long.name","owner":4294967,"guarded":false}]})"};
  const auto outcome = kit::run(plumb({"ls"}));
  cr_assert_eq(outcome.output,
               "NAME         OWNER    GUARDED\npong         root     yes\na.long.name  4294967  no\n");
}

Test(plumb_show, events_end_with_their_answer_and_are_lines_in_json) {
  const Scripted scripted;
  std::jthread router{[&] {
    for (int i = 0; i < 2; ++i) {
      auto wire = scripted.accept();
      const auto request = wire.receive();
      cr_assert_eq(request.message->params.text(), R"({"follow":false,"count":5,"since":3})");
      for (int k = 0; k < 2; ++k) wire.notify("event", "{\"decision\":" + std::string(denied_decision) + "}");
      wire.answer(request, "{}");
    }
  }};
  const auto words = kit::run(plumb({"events", "--count", "5", "--since", "3"}));
  cr_assert_eq(words.status, 0, "%s", words.error.c_str());
  cr_assert(words.output.starts_with(
                "7 2026-01-01T00:00:00.000Z deny out pong -> pong2, root (uid 0, pid 9), to tcp://h:1, "
                "by \"deny out * *\" [plumberd.toml:3]\n"),
            "%s", words.output.c_str());
  const auto json = kit::run(plumb({"events", "--count", "5", "--since", "3", "--json"}));
  std::istringstream lines{json.output};
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) kit::must(ipc::JsonDocument::parse(line));
  cr_assert_eq(count, 2);
}

Test(plumb_show, rules_are_fetched_in_parts) {
  const Scripted scripted;
  std::jthread router{[&] {
    for (const auto* answer :
         {R"({"rules":[{"text":"allow out * *","at":"f:1","hits":3,"last":"t"}],"next":1})",
          R"({"rules":[{"text":"deny in * *","at":"f:2","hits":0}]})"}) {
      auto wire = scripted.accept();
      wire.answer(wire.receive(), answer);
    }
  }};
  const auto outcome = kit::run(plumb({"rules"}));
  cr_assert_eq(outcome.output,
               "HITS  LAST   AT   RULE\n3     t      f:1  allow out * *\n0     never  f:2  deny in * *\n");
}

Test(plumb_show, a_refused_reload_is_status_7_and_prints_every_error) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    const auto request = wire.receive();
    cr_assert_eq(request.message->params["confirm"].integer_or(0), 60);
    wire.send(ipc::rpc::error(request.message->id, {ipc::Word::bad_request, "2 errors; nothing was changed"},
                              R"("errors":["a.toml:1:2: error: x","a.toml:2:1: error: y\n  shown line"])"));
  }};
  const auto outcome = kit::run(plumb({"reload", "--confirm", "60"}));
  cr_assert_eq(outcome.status, 7);
  cr_assert_eq(outcome.error,
               "plumb: BAD_REQUEST: 2 errors; nothing was changed\nplumb: a.toml:1:2: error: x\n"
               "plumb: a.toml:2:1: error: y\nplumb:   shown line\n");
}

Test(plumb_show, ping_without_a_service_asks_the_router_itself) {
  OneAnswer once{R"({"version":"1.2.3"})"};
  const auto outcome = kit::run(plumb({"ping", "--json"}));
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(json_of(outcome).root()["version"].string_or(""), "1.2.3");
}

Test(plumb_show, bytes_of_strangers_are_shown_escaped) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    wire.refuse(wire.receive(), {ipc::Word::unreachable, "h says: \x1b[2J\r\n"});
  }};
  const auto outcome = kit::run(plumb({"connect", "pong"}));
  cr_assert_eq(outcome.error, "plumb: UNREACHABLE: h says: \\x1b[2J\\x0d\\x0a\n");
}

Test(plumb_show, the_bash_completion_knows_the_same_commands_and_options_as_the_help) {
  const auto script = kit::source_dir() + "/tools/completion/plumb.bash";
  const auto sorted_words = [](const std::string& pipeline) {
    return kit::run({.args = {"bash", "-c", pipeline + " | tr ' ' '\\n' | grep . | sort -u"}}).output;
  };
  const auto plumb_program = kit::binary("plumb");
  const auto commands = sorted_words(". " + script + "; _plumb_commands");
  cr_assert_eq(commands, sorted_words(plumb_program +
                                      " --help | sed -n '/^Subcommands:/,/^$/s/^  \\([a-z]*\\) .*/\\1/p'"));
  std::istringstream names{commands};
  for (std::string name; std::getline(names, name);) {
    const auto known = sorted_words(". " + script + "; _plumb_options " + name);
    const auto helped =
        sorted_words(plumb_program + " " + name + " --help | sed -n '/^Options:/,/^$/p' | grep '^  -' | " +
                     "sed 's/^  \\([-a-z,]*\\).*/\\1/' | tr ',' '\\n'");
    cr_assert_eq(known, helped, "%s: completion has\n%s, help has\n%s", name.c_str(), known.c_str(),
                 helped.c_str());
  }
}
