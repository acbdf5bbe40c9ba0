// Keys and secrets appear nowhere: not in logs, events, answers, refusals, command lines, core files, and not
// in memory once they have served.
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "ipc/client.hh"
#include "ipc/service.hh"
#include "tests/e2e/host.hh"
#include "tests/e2e/tls_bench.hh"

using namespace kit;

namespace {
#if defined(__SANITIZE_ADDRESS__)
constexpr bool is_watched = true;
#elif defined(__has_feature)
constexpr bool is_watched = __has_feature(address_sanitizer);
#else
constexpr bool is_watched = false;
#endif

// Neither hex nor anything that escaping or quoting would change.
constexpr std::string_view in_directive = "DirectiveSecret0aZ9yX8wV7u";
constexpr std::string_view in_route = "RouteSecretQ1bR2cS3dT4eU5f";
constexpr std::string_view in_file = "FileSecretK6gL7hM8iN9jO0kP";
// As text it is nothing that a key consists of.
constexpr std::string_view in_hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef";
constexpr std::string_view wrong = "WrongSecretG1lH2mI3nJ4oK5p";

std::string psk_file(const TempDir& dir) {
  const auto path = dir / "psk";
  std::ofstream{path} << "bob:" << in_directive << "\ncarol:" << in_route << "\nalice:" << in_file
                      << "\ndave:" << in_hex << "\n";
  ::chmod(path.c_str(), 0600);
  return path;
}

/// A host that is reached with any of these keys, and one that dials it.
struct Pair {
  TempDir dir;
  Authority ca{dir};
  Issued issued = ca.issue("server");
  std::string keys = psk_file(dir);
  Host far;
  Host near;

  Pair()
      : far{{"--allow", "in", "pong", "*", "--log-level", "debug"},
            "[[listen]]\nuri = \"tls://127.0.0.1:0\"\nprofile = \"p\"\n[tls.p]\ncertificate = \"" +
                issued.certificate + "\"\nprivate_key = \"" + issued.key + "\"\npsk_file = \"" + keys +
                "\"\n"},
        near{{"--log-level", "debug", "--deny", "out", "forbidden", "*"}, near_config()} {}

  std::string place(std::string_view who = "") const {
    return "tls://" + std::string(who) + "localhost:" + std::to_string(far.port()) + "/pong";
  }
  std::string directive(std::string_view secret, std::string_view who = "bob") const {
    return "direct " + place(std::string(who) + ":" + std::string(secret) + "@");
  }
  std::string near_config() const {
    return "[routes]\nrouted = \"" + place("carol:" + std::string(in_route) + "@") +
           "\"\nstored = { target = \"" + place("alice@") + "\", profile = \"p\" }\n[tls.p]\npsk_file = \"" +
           keys + "\"\n";
  }
};

/// Everything a program said.
std::string said(const Host& host, std::vector<std::string> words, const std::string& networkd = "",
                 int* status = nullptr) {
  words.insert(words.begin(), {binary("plumb"), "--rundir", host.rundir()});
  const auto outcome = run({.args = std::move(words), .env = {"IPC_NETWORKD=" + networkd}});
  if (status != nullptr) *status = outcome.status;
  return outcome.output + outcome.error;
}

void expect_status(int status, int wanted, const std::string& text) {
  cr_assert_eq(status, wanted, "%d: %s", status, text.c_str());
}

/// Each way of asking: with and without luck.
std::string dials(const Pair& pair) {
  std::string all;
  int status = 0;
  const auto dial = [&](std::vector<std::string> words, const std::string& networkd, int wanted) {
    const auto text = said(pair.near, std::move(words), networkd, &status);
    expect_status(status, wanted, text);
    all += text;
  };
  for (const std::vector<std::string>& words : {std::vector<std::string>{"ping", "direct"},
                                                {"--json", "ping", "direct"},
                                                {"--json", "connect", "direct"}})
    dial(words, pair.directive(in_directive), 0);
  dial({"ping", "routed"}, "", 0);
  dial({"--json", "ping", "stored"}, "", 0);
  dial({"ping", pair.place("bob:" + std::string(in_directive) + "@")}, "", 0);
  dial({"ping", "direct"}, pair.directive(wrong), 6);
  dial({"--json", "connect", "direct"}, pair.directive(wrong), 6);
  dial({"ping", "direct"}, pair.directive("TooShort"), 2);
  dial({"ping", "forbidden"}, "forbidden tls://bob:" + std::string(wrong) + "@localhost/forbidden", 1);
  dial({"ping", "direct"}, "direct tls://bob:" + std::string(wrong) + "@local host/%zz", 2);
  dial({"ping", "direct"}, "direct nobody://bob:" + std::string(wrong) + "@host/x", 7);
  dial({"ping", "tls://bob:" + std::string(wrong) + "/x@localhost:1/%zz"}, "", 2);
  return all;
}

/// What an operator can ask for.
std::string views(const Pair& pair) {
  std::string all;
  for (const auto* host : {&pair.near, &pair.far})
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"ls"},
          {"--json", "ls"},
          {"status"},
          {"--json", "status"},
          {"rules"},
          {"--json", "rules"},
          {"metrics"},
          {"events", "--count", "100"},
          {"--json", "events", "--count", "100"},
          {"explain", "routed"},
          {"--json", "explain", "routed"},
          {"explain", "direct", "--networkd", pair.directive(in_directive)},
          {"reload"}})
      all += said(*host, words);
  return all;
}

/// Load errors show the line they are about.
std::string refused_reload(const Pair& pair) {
  const auto uri = "\"tls://bob:" + std::string(wrong) + "@h/";
  std::string all;
  for (const auto& text : {"[routes]\nx = { target = " + uri + "x\", wrm = 1 }\ny = " + uri + "%zz\"\n",
                           "[routes]\nz = " + uri + "never closed\n"}) {
    pair.near.write_config(text);
    all += said(pair.near, {"reload"}) + said(pair.near, {"--json", "reload"});
    const auto check = run({.args = {binary("plumberd"), "--check", "--config", pair.near.config_path()}});
    cr_assert_eq(check.status, 7);
    all += check.output + check.error;
  }
  const auto given = run({.args = {binary("plumberd"), "--check", "--config", "/dev/null", "--route", "x",
                                   uri.substr(1) + "x"}});
  cr_assert_eq(given.status, 7);
  return all + given.output + given.error;
}

std::string command_lines(Host& host) {
  std::string all;
  for (const auto pid : descendants(::getpid()))
    all += read_file("/proc/" + std::to_string(pid) + "/cmdline");
  return all + host.router().error();
}

void must_be_absent(const std::string& from, std::string_view secret) {
  const auto at = from.find(secret);
  const auto start = at == from.npos || at < 200 ? 0 : at - 200;
  cr_assert(at == from.npos, "%s", from.substr(start, 400).c_str());
}

/// Whether a process has these bytes in memory that it may write. For root.
bool holds(pid_t pid, std::string_view secret) {
  const auto process = "/proc/" + std::to_string(pid);
  std::ifstream memory{process + "/mem", std::ios::binary};
  std::istringstream maps{read_file(process + "/maps")};
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    char readable = 0, writable = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %c%c", &begin, &end, &readable, &writable) != 4 || writable != 'w')
      continue;
    std::string bytes(end - begin, '\0');
    memory.clear();
    memory.seekg(static_cast<std::streamoff>(begin));
    memory.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (bytes.find(secret) != bytes.npos) return true;
  }
  return false;
}
}  // namespace

Test(secrets, are_in_nothing_that_anybody_is_told) {
  Pair pair;
  const auto service = must(ipc::Service::serve("pong", {.rundir = pair.far.rundir()}));
  auto everything = dials(pair) + views(pair) + refused_reload(pair);
  everything += command_lines(pair.near) + command_lines(pair.far);
  cr_assert(everything.find("***") != everything.npos, "secrets are shown as what they are");
  for (const auto secret : {in_directive, in_route, in_file, wrong}) must_be_absent(everything, secret);
  std::istringstream pem{read_file(pair.issued.key)};
  for (std::string line; std::getline(pem, line);)
    if (line.size() > 20 && !line.starts_with("-----")) must_be_absent(everything, line);
}

Test(secrets, of_a_malformed_psk_file_are_not_quoted) {
  TempDir dir;
  ScriptedRouter router{"tlsd"};
  for (const auto* text :
       {"alice WrongSecretG1lH2mI3nJ4oK5p\n", "alice:short-Wrong\n", ":WrongSecretG1lH2mI3nJ4oK5p\n"}) {
    write_file(dir / "psk", text);
    const auto answer = router.listen("tls://127.0.0.1:0", profile({{"psk_file", dir / "psk"}}));
    cr_assert(answer.word() == "BAD_REQUEST" && answer.text.find("psk:1: ") != answer.text.npos, "%s",
              answer.text.c_str());
    must_be_absent(answer.text + router.logs(), "Wrong");
  }
}

Test(secrets, leave_memory_when_they_have_served) {
  if (is_watched) cr_skip("a sanitizer keeps what was let go");
  if (::geteuid() != 0) cr_skip("only root may look");
  Pair pair;
  auto service = must(ipc::Service::serve("pong", {.rundir = pair.far.rundir()}));
  ipc::Client client{pair.near.rundir()};
  const auto connection = must(client.connect("direct", {.networkd = pair.directive(in_hex, "dave")}));
  const auto caller = must(service.accept(patience));
  must(client.connect("stored", {.networkd = ""}));  // memory is used again, and its buffers are
  cr_assert(holds(::getpid(), in_hex), "the test looks in the right places");
  cr_assert_not(holds(pair.near.helper("tlsd"), in_hex));
  cr_assert_not(holds(pair.near.router_pid(), in_hex));
  cr_assert_not(holds(pair.far.helper("tlsd"), in_hex), "the text of a psk_file");
}

Test(secrets, are_in_no_core_file) {
  if (is_watched) cr_skip("a sanitizer has to look into the process");
  const auto nobody = ::geteuid() == 0 ? std::optional<unsigned>{65'534} : std::nullopt;
  ScriptedRouter router{Command{.args = {binary("tlsd")}, .uid = nobody}};
  struct stat status {};
  cr_assert_eq(::stat(("/proc/" + std::to_string(router.helper().pid()) + "/mem").c_str(), &status), 0);
  cr_assert_eq(status.st_uid, 0, "proc(5): files of what cannot be dumped belong to root");
}
