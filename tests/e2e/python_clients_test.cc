// Clients in Python that were written from docs/protocol.md alone (tests/helpers/doorclient.py, lookup.py),
// at the doors of the real router.
#include <criterion/criterion.h>

#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "tests/e2e/host.hh"

using kit::Host;
using kit::Offer;

namespace {
kit::Command python(const Host& host, const std::string& program, std::vector<std::string> arguments) {
  if (!kit::installed("python3")) cr_skip_test("needs python3");
  arguments.insert(arguments.begin(), {"python3", kit::source_dir() + "/tests/helpers/" + program});
  return {.args = std::move(arguments),
          .env = {"IPC_RUNDIR=" + host.rundir(), "IPC_NETWORKD", "IPC_NETWORK"}};
}

kit::Outcome door(const Host& host, std::vector<std::string> arguments) {
  return kit::run(python(host, "doorclient.py", std::move(arguments)));
}

bool holds(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

#define expect_holds(text, part) cr_assert(holds(text, part), "no %s in: %s", part, (text).c_str())

Host far_host() { return Host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}}; }

/// Sends everything back to whoever connects to `offer`.
struct Echo {
  explicit Echo(Offer& offer) : thread{[&offer] { kit::echo(offer.accept().first.borrow()); }} {}
  std::jthread thread;
};
}  // namespace

Test(python_client, connects_and_is_told_path_labels_and_decision) {
  const auto far = far_host();
  const Host near;
  Offer offer{far, "pong"};
  const Echo echo{offer};
  const auto outcome = door(
      near, {"connect", "pong", "--networkd", "pong " + far.uri("pong"), "--decision", "said and heard"});
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  for (const auto* part :
       {R"("path": "direct")", R"("blocking": true)", R"("family": "AF_INET")", R"("scheme": "tcp")",
        R"("kind": "directive")", R"("verdict": "allow")", "\"said and heard\"\n"})
    expect_holds(outcome.output, part);
}

Test(python_client, serves_and_its_callers_claims_arrive_as_such) {
  const Host host;
  kit::Process service{python(host, "doorclient.py", {"serve", "echo"})};
  service.wait_for_output("serving");
  const auto outcome = door(host, {"connect", "echo", "--label", "user=alice", "to and fro"});
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  expect_holds(outcome.output, "\"to and fro\"\n");
  cr_assert_eq(service.wait(), 0, "%s", service.error().c_str());
  expect_holds(service.output(), R"("claimed.user": "alice")");
  expect_holds(service.output(), R"("service": "echo")");
}

Test(python_client, is_told_the_word_the_sentence_and_the_rule) {
  const Host host{{"--deny", "out", "secret", "*"}};
  const auto outcome =
      door(host, {"connect", "secret", "--networkd", "secret tcp://127.0.0.1:9", "--decision"});
  cr_assert_eq(outcome.status, 1);
  for (const auto* part : {R"("code": "DENIED")", R"("rule": "deny out secret *")",
                           R"("at": "command line:1")", R"("verdict": "deny")"})
    expect_holds(outcome.error, part);
}

Test(python_client, lists_explains_and_reads_events) {
  const Host host{{"--route", "away", "tcp://192.0.2.1:9", "--allow", "in", "pong", "tcp:192.0.2.7"}};
  const Offer offer{host, "pong"};
  const auto listed = door(host, {"list"});
  expect_holds(listed.output, R"({"guarded": true, "name": "pong", "owner": )");
  expect_holds(listed.output, R"("name": "away")");
  const auto explained = door(host, {"explain", "away"});
  for (const auto* part :
       {R"("kind": "route")", R"("helper": "tcpd")", R"("opened": "away")", R"("direction": "out")"})
    expect_holds(explained.output, part);
  const auto inbound = door(host, {"explain", "pong", "--from", "tcp:192.0.2.7"});
  for (const auto* part : {R"("direction": "in")", R"("text": "allow in pong tcp:192.0.2.7")"})
    expect_holds(inbound.output, part);
  const auto other = door(host, {"explain", "away", "--as", "user:65534"});
  expect_holds(other.output, R"("verdict": "deny")");
  door(host, {"connect", "nobody-has-it"});
  const auto events = door(host, {"events", "--count", "1"});
  expect_holds(events.output, R"("asked": "nobody-has-it")");
  expect_holds(events.output, R"("code": "UNKNOWN_SERVICE")");
  cr_assert_eq(std::ranges::count(events.output, '\n'), 1);
  cr_assert_eq(door(host, {"events", "--since", "1000000"}).output, "");
}

Test(python_client, finds_every_method_and_member_that_the_document_names) {
  const Host host{{"--allow", "out", "x", "tcp:192.0.2.1"}};
  auto client = host.door();
  std::istringstream lines{kit::read_file(kit::source_dir() + "/docs/protocol.md")};
  std::string part;
  int methods = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("## ") || line.starts_with("### ")) part = line;
    if (!part.starts_with("## 3.") || !line.starts_with("| `")) continue;
    const auto method = line.substr(3, line.find('`', 3) - 3);
    if (method == "reload" || method == "confirm") continue;
    ++methods;
    const auto params = method == "explain" ? R"({"service":"x"})" : R"({"follow":false,"service":"x"})";
    const auto answer = client.call(method, params);
    cr_assert_eq(answer.text.find("-32601"), std::string::npos, "%s", method.c_str());
  }
  cr_assert_eq(methods, 9);
  const auto status = host.status();
  for (const auto* member : {"version", "pid", "generation", "rundir", "listeners", "helpers", "services",
                             "limits", "sessions", "rules", "warm", "files", "notes"})
    cr_assert(status.result()[member].exists(), "status has no %s", member);
  for (const auto* member : {"name", "schemes", "state", "pid", "restarts", "dialling"})
    cr_assert((*status.result()["helpers"].begin())[member].exists(), "%s", member);
}

Test(python_lookup, of_0_7_gets_a_local_service_one_message_to_a_read) {
  const Host host;
  Offer offer{host, "pong"};
  const Echo echo{offer};
  const auto outcome =
      kit::run(python(host, "lookup.py", {"0.7", "pong", "pong unix:///pong", "one", "", "three"}));
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(outcome.output,
               "{\"family\": \"AF_UNIX\", \"blocking\": true}\n"
               "{\"text\": \"one\", \"type\": 2, \"user_type\": 42}\n"
               "{\"text\": \"\", \"type\": 2, \"user_type\": 42}\n"
               "{\"text\": \"three\", \"type\": 2, \"user_type\": 42}\n");
}

Test(python_lookup, of_either_version_crosses_the_network_in_whole_messages) {
  const auto far = far_host();
  const Host near;
  for (const auto* version : {"0.7", "v1"}) {
    Offer offer{far, "pong"};
    const Echo echo{offer};
    const std::string large(30'000, 'x');  // what one read is sure to take
    const auto outcome = kit::run(
        python(near, "lookup.py", {version, "pong", "pong " + far.uri("pong"), "one", large, "two"}));
    cr_assert_eq(outcome.status, 0, "%s: %s", version, outcome.error.c_str());
    for (const auto* part : {"AF_UNIX", "\"text\": \"one\"", "\"text\": \"two\""})
      expect_holds(outcome.output, part);
    expect_holds(outcome.output, large.c_str());
    offer.wire().close();
    cr_assert(kit::eventually([&] { return ::access((far / "pong").c_str(), F_OK) != 0; }));
  }
}

Test(python_lookup, that_fails_is_a_text_in_0_7_and_a_closed_connection_in_v1) {
  const Host host;
  const auto text = kit::run(python(host, "lookup.py", {"0.7", "pong", "audio tcp://127.0.0.1:9"}));
  cr_assert_eq(text.status, 1);
  expect_holds(text.output, "{\"refused\": \"UNKNOWN_SERVICE: ");
  const auto closed = kit::run(python(host, "lookup.py", {"v1", "pong", ""}));
  cr_assert_eq(closed.status, 1);
  cr_assert_eq(closed.output, "{\"refused\": \"closed\"}\n");
}

Test(python_lookup, of_0_7_that_is_denied_holds_a_socket_that_ends_at_once) {
  const Host host{{"--deny", "out", "pong", "*"}};
  const auto outcome =
      kit::run(python(host, "lookup.py", {"0.7", "pong", "pong tcp://127.0.0.1:9/pong", "hello"}));
  cr_assert_eq(outcome.status, 3, "%s", outcome.output.c_str());
}

Test(python_lookup, of_v1_takes_the_last_entry_of_a_name) {
  const Host host;
  Offer offer{host, "right"};
  const Echo echo{offer};
  const auto outcome =
      kit::run(python(host, "lookup.py", {"v1", "pong", "pong unix:///wrong;pong unix:///right", "hello"}));
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  expect_holds(outcome.output, "\"text\": \"hello\"");
}
