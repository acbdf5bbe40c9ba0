// The command line against a scripted router: what goes over the door, what is printed, the exit statuses.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "tests/e2e/host.hh"
#include "tests/e2e/plumb_kit.hh"

using namespace std::chrono_literals;
using kit::has, kit::json_of, kit::plumb, kit::Scripted;

Test(plumb, every_command_has_help_with_a_usage_line_and_an_example) {
  const auto top = kit::run(plumb({"--help"}));
  cr_assert_eq(top.status, 0);
  for (const auto* command : {"connect", "serve", "ping", "ls", "status", "explain", "rules", "reload",
                              "confirm", "events", "metrics", "ca", "psk", "version"}) {
    cr_assert(has(top.output, std::string("\n  ") + command + " "), "%s", command);
    const auto help = kit::run(plumb({command, "--help"}));
    cr_assert_eq(help.status, 0);
    cr_assert(has(help.output, std::string("usage: plumb ") + command), "%s", help.output.c_str());
    cr_assert(has(help.output, "example:\n  "), "%s", help.output.c_str());
    cr_assert(has(help.output, "--json") && has(help.output, "--rundir"));
  }
}

Test(plumb, wrong_usage_is_status_2_in_words_and_in_json) {
  for (const auto& args : std::vector<std::vector<std::string>>{{},
                                                                {"dance"},
                                                                {"connect"},
                                                                {"serve", "pong"},
                                                                {"serve", "pong", "--"},
                                                                {"ping", "x", "--", "cat"},
                                                                {"connect", "x", "--wrong"},
                                                                {"connect", "x", "--fdpass", "--", "cat"},
                                                                {"reload", "--confirm", "0"},
                                                                {"explain", "x", "--in"},
                                                                {"ls", "extra"}}) {
    const auto words = kit::run(plumb(args));
    cr_assert_eq(words.status, 2);
    cr_assert(words.output.empty() && words.error.starts_with("plumb: "), "%s", words.error.c_str());
    auto with_json = args;
    with_json.insert(with_json.begin(), "--json");
    const auto json = kit::run(plumb(with_json));
    cr_assert_eq(json.status, 2);
    cr_assert_eq(json_of(json).root()["error"]["code"].string_or(""), "BAD_REQUEST");
  }
}

Test(plumb, an_unknown_word_is_named_with_the_nearest_that_is_known) {
  const std::pair<std::vector<std::string>, const char*> table[] = {
      {{"conect", "x"}, "there is no command \"conect\"; did you mean \"connect\"?"},
      {{"frobnicate"}, "there is no command \"frobnicate\""},
      {{"connect", "x", "--fdpas"}, "there is no option \"--fdpas\"; did you mean \"--fdpass\"?"},
      {{"--jsn", "ls"}, "there is no option \"--jsn\"; did you mean \"--json\"?"}};
  for (const auto& [args, expected] : table) {
    const auto outcome = kit::run(plumb(args));
    cr_assert_eq(outcome.status, 2);
    cr_assert(has(outcome.error, expected), "%s", outcome.error.c_str());
  }
}

Test(plumb, without_a_router_says_where_that_of_the_user_is) {
  if (::geteuid() != 0) cr_skip("acts as another user: needs root");
  const auto uid = 1'000'000U + static_cast<unsigned>(::getpid());
  const auto own = "/tmp/ipc-" + std::to_string(uid);
  const std::vector<std::string> env{"IPC_RUNDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "HOME"};
  kit::Process router{{.args = {kit::binary("plumberd")}, .env = env, .uid = uid, .directory = "/"}};
  router.wait_for_error("ready in " + own);
  auto command = plumb({"--rundir", "/nonexistent", "ls"});
  command.uid = uid;
  command.directory = "/";
  const auto outcome = kit::run(command);
  cr_assert_eq(router.stop(), 0);
  std::filesystem::remove_all(own);
  cr_assert_eq(outcome.status, 4);
  cr_assert(has(outcome.error, "set IPC_RUNDIR=" + own), "%s", outcome.error.c_str());
}

Test(plumb, without_a_router_every_command_is_status_4) {
  const Scripted scripted{false};
  for (const auto& args : std::vector<std::vector<std::string>>{{"connect", "pong"},
                                                                {"connect", "tcp://127.0.0.1:1"},
                                                                {"serve", "pong", "--", "cat"},
                                                                {"ping"},
                                                                {"ping", "pong"},
                                                                {"ls"},
                                                                {"status"},
                                                                {"explain", "pong"},
                                                                {"rules"},
                                                                {"reload"},
                                                                {"confirm"},
                                                                {"events"},
                                                                {"metrics"}}) {
    const auto words = kit::run(plumb(args));
    cr_assert_eq(words.status, 4, "%s: %s", args[0].c_str(), words.error.c_str());
    cr_assert(has(words.error, "NO_ROUTER: no router answers at "), "%s", words.error.c_str());
    auto with_json = args;
    with_json.insert(with_json.begin() + 1, "--json");
    const auto json = kit::run(plumb(with_json));
    cr_assert_eq(json.status, 4);
    cr_assert_eq(json_of(json).root()["error"]["code"].string_or(""), "NO_ROUTER");
  }
}

Test(plumb, exit_statuses_follow_the_words) {
  using ipc::Word;
  const std::pair<Word, int> table[] = {
      {Word::denied, 1},  {Word::bad_request, 2}, {Word::unknown_service, 3}, {Word::unreachable, 5},
      {Word::timeout, 5}, {Word::auth, 6},        {Word::no_helper, 7},       {Word::loop, 7},
      {Word::busy, 8},    {Word::taken, 8},       {Word::internal, 9}};
  const Scripted scripted;
  std::jthread router{[&] {
    for (const auto& [word, status] : table) {
      auto wire = scripted.accept();
      wire.refuse(wire.receive(),
                  {.word = word, .text = "a sentence", .rule = "deny out * *", .at = "f:3", .far = true});
    }
  }};
  for (const auto& [word, status] : table) {
    const auto outcome = kit::run(plumb({"connect", "--json", "pong"}));
    cr_assert_eq(outcome.status, status);
    const auto document = json_of(outcome);
    const auto error = document.root()["error"];
    cr_assert_eq(error["code"].string_or(""), to_string(word));
    cr_assert_eq(error["message"].string_or(""), "a sentence");
    cr_assert_eq(error["rule"].string_or(""), "deny out * *");
    cr_assert_eq(error["far"].boolean_or(false), true);
  }
}

Test(plumb, connect_carries_bytes_and_passes_the_end_of_the_input_on) {
  const Scripted scripted;
  std::string heard;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    const auto service = kit::take_over(wire);
    heard = kit::receive_all(service.borrow());  // ends, while our direction is still open
    kit::send_all(service.borrow(), std::string(3'000'000, 'x') + "end");
  }};
  const auto outcome =
      kit::run(plumb({"connect", "pong", "--rundir", scripted.dir.path()}), std::string(500'000, 'i'));
  router.join();
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(heard.size(), 500'000);
  cr_assert_eq(outcome.output.size(), 3'000'003);
  cr_assert(outcome.output.ends_with("end"));
}

Test(plumb, connect_says_what_is_wrong_with_its_input_and_does_not_pass_it_off_as_an_end) {
  const Scripted scripted;
  const ipc::Fd directory{::open("/", O_RDONLY | O_CLOEXEC)};
  auto command = plumb({"connect", "pong"});
  command.input = directory.borrow();
  kit::Process process{command};
  auto wire = scripted.accept();
  const auto service = kit::take_over(wire);
  process.wait_for_error("cannot read standard input: Is a directory");
  cr_assert_eq(process.wait(), 9);
}

Test(plumb, that_cannot_complain_has_the_same_exit_status) {
  for (const auto* error : {"2>/dev/full", "2>&-"}) {
    const auto line = "exec " + kit::binary("plumb") + " --rundir /nonexistent ping " + error;
    cr_assert_eq(kit::run({.args = {"sh", "-c", line}}).status, 4, "%s", error);
  }
}

Test(plumb, serve_goes_on_where_children_are_not_waited_for_by_default) {
  const Scripted scripted;
  const auto* ignoring =
      "import "
      "os,signal,sys\nsignal.signal(signal.SIGCHLD,signal.SIG_IGN)\nos.execv(sys.argv[1],sys.argv[1:])";
  kit::Process process{kit::Command{.args = {"python3", "-c", ignoring, kit::binary("plumb"), "serve", "pong",
                                             "--max", "1", "--", "echo", "up"}}};
  auto wire = scripted.accept();
  kit::accept_registration(wire);
  for (int i = 0; i < 3; ++i) cr_assert_eq(kit::receive_all(kit::send_accepted(wire).borrow()), "up\n");
}

Test(plumb, connect_passes_the_end_of_the_service_on_while_input_still_flows) {
  const Scripted scripted;
  auto [input, ours] = kit::must(ipc::socket_pair(SOCK_STREAM));
  auto [output, seen] = kit::must(ipc::socket_pair(SOCK_STREAM));
  kit::must(ipc::set_blocking(input.borrow(), true));
  kit::must(ipc::set_blocking(output.borrow(), true));
  auto command = plumb({"connect", "pong"});
  command.input = input.borrow();
  command.output = output.borrow();
  kit::Process process{command};
  input = ipc::Fd{};
  output = ipc::Fd{};
  auto wire = scripted.accept();
  const auto service = kit::take_over(wire);
  kit::send_all(service.borrow(), "bye");
  ::shutdown(service.borrow(), SHUT_WR);
  cr_assert_eq(kit::receive_all(seen.borrow()), "bye");
  kit::send_all(ours.borrow(), "still here");
  cr_assert_eq(kit::receive_exactly(service.borrow(), 10), "still here");
  ours = ipc::Fd{};
  cr_assert_eq(kit::receive_all(service.borrow()), "");
  cr_assert_eq(process.wait(), 0);
}

Test(plumb, connect_runs_a_program_on_the_connection_with_the_labels_as_environment) {
  const Scripted scripted;
  std::string heard;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    const auto service = kit::take_over(wire);
    kit::send_all(service.borrow(), "question\n");
    heard = kit::receive_all(service.borrow());
  }};
  auto command = plumb({"connect", "pong", "--", "sh", "-c",
                        "read line; echo \"$line $PLUMB_SCHEME $PLUMB_PEER_PORT $PLUMB_PATH $PLUMB_SERVICE "
                        "$PLUMB_OLD\"; exit 42"});
  command.env = {"PLUMB_OLD=leak"};
  const auto outcome = kit::run(command);
  router.join();
  cr_assert_eq(outcome.status, 42, "%s", outcome.error.c_str());
  cr_assert_eq(heard, "question tcp 9 direct pong \n");
}

Test(plumb, connect_json_tells_about_the_connection) {
  const Scripted scripted;
  std::string params;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::hand_over(wire, &params);
  }};
  const auto outcome = kit::run(plumb({"--json", "connect", "tls://me:topsecret@127.0.0.1:9/x"}), "input");
  router.join();
  cr_assert_eq(outcome.status, 0);
  const auto document = json_of(outcome);
  cr_assert_eq(document.root()["path"].string_or(""), "direct");
  cr_assert_eq(document.root()["labels"]["scheme"].string_or(""), "tcp");
  cr_assert_not(has(outcome.output, "topsecret"));
  cr_assert(has(params, R"("uri":"tls://me:topsecret@127.0.0.1:9/x")"));
}

Test(plumb, connect_fdpass_gives_the_socket_to_who_holds_our_standard_output) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::send_all(kit::take_over(wire).borrow(), "SSH-2.0-pong\r\n");
  }};
  auto [ours, theirs] = kit::must(ipc::socket_pair(SOCK_STREAM));
  kit::must(ipc::set_blocking(theirs.borrow(), true));
  auto command = plumb({"connect", "--fdpass", "pong"});
  command.output = theirs.borrow();
  kit::Process process{command};
  theirs = ipc::Fd{};
  cr_assert(kit::is_readable(ours.borrow()));
  std::array<char, 8> byte{};
  auto received = kit::must(ipc::receive_with_fds(ours.borrow(), byte));
  cr_assert_eq(received.size, 1);
  cr_assert_eq(received.fds.size(), 1);
  cr_assert_eq(process.wait(), 0);
  cr_assert_eq(kit::receive_all(received.fds[0].borrow()), "SSH-2.0-pong\r\n");
}

Test(plumb, fdpass_into_a_pipe_is_an_error_with_a_sentence) {
  const Scripted scripted;
  std::jthread router{[&] {
    auto wire = scripted.accept();
    kit::hand_over(wire);
  }};
  const auto outcome = kit::run(plumb({"connect", "--fdpass", "pong"}));
  cr_assert_eq(outcome.status, 2);
  cr_assert(has(outcome.error, "standard output is no UNIX socket"), "%s", outcome.error.c_str());
}

Test(plumb, serve_runs_a_program_for_each_connection_until_it_is_told_to_end) {
  const Scripted scripted;
  kit::Process process{plumb({"serve", "pong", "--shared", "--", "sh", "-c",
                              "read line; echo \"$line from $PLUMB_CLIENT_UID for $PLUMB_SERVICE\""})};
  auto wire = scripted.accept();
  kit::accept_registration(wire);
  process.wait_for_error("serving pong");
  for (const auto* word : {"one", "two", "three"}) {
    const auto caller = kit::send_accepted(wire);
    kit::send_all(caller.borrow(), std::string(word) + "\n");
    cr_assert_eq(kit::receive_all(caller.borrow()), std::string(word) + " from 7 for pong\n");
  }
  cr_assert(kit::eventually([&] { return kit::descendants(process.pid()).empty(); }));
  cr_assert_eq(process.stop(), 0);
}

Test(plumb, serve_runs_no_more_programs_than_it_may) {
  const Scripted scripted;
  kit::Process process{
      plumb({"serve", "pong", "--max", "2", "--", "sh", "-c", "echo up; read line; echo down"})};
  auto wire = scripted.accept();
  kit::accept_registration(wire);
  const auto first = kit::send_accepted(wire);
  const auto second = kit::send_accepted(wire);
  const auto third = kit::send_accepted(wire);
  cr_assert_eq(kit::receive_exactly(second.borrow(), 3), "up\n");
  cr_assert_not(kit::is_readable(third.borrow(), 50ms));
  process.wait_for_error("all 2 programs of pong are busy");
  kit::send_all(first.borrow(), "\n");
  cr_assert_eq(kit::receive_exactly(third.borrow(), 3), "up\n");
}

Test(plumb, serve_puts_early_datagrams_in_front) {
  const Scripted scripted;
  kit::Process process{plumb({"serve", "pong", "--", "python3", "-c",
                              "import socket; s=socket.socket(fileno=0)\n"
                              "for i in range(3): s.send(b'<'+s.recv(99)+b'>')\n"})};
  auto wire = scripted.accept();
  kit::accept_registration(wire);
  auto [theirs, ours] = kit::must(ipc::socket_pair(SOCK_DGRAM));
  const int raw = theirs.borrow();
  wire.notify("accepted", R"({"service":"pong","fd":0,"labels":{},"first":["","b25l","dHdv"]})", {&raw, 1});
  theirs = ipc::Fd{};
  kit::send_all(ours.borrow(), "three");
  for (const auto* answer : {"<one>", "<two>", "<three>"}) {
    cr_assert(kit::is_readable(ours.borrow()));
    std::array<char, 64> room{};
    const auto size = ::recv(ours.borrow(), room.data(), room.size(), 0);
    cr_assert_eq(std::string(room.data(), static_cast<std::size_t>(size)), answer);
  }
}

Test(plumb, warns_of_the_legacy_form_of_a_uri_without_its_secret) {
  const kit::Host host;
  const auto got = kit::run({.args = {kit::binary("plumb"), "--rundir", host.rundir(), "ping", "pong",
                                      "--networkd", "pong tls://alice@sesame-open-sesame:127.0.0.1:1"}});
  cr_assert_neq(got.error.find("warning: "), std::string::npos, "%s", got.error.c_str());
  cr_assert_neq(got.error.find("write user:secret@host:port"), std::string::npos, "%s", got.error.c_str());
  cr_assert_eq(got.error.find("sesame"), std::string::npos, "%s", got.error.c_str());
  auto door = host.door();
  const auto explained =
      door.call("explain", kit::ask("pong", "pong tls://alice@sesame-open-sesame:127.0.0.1:1"));
  cr_assert_neq(explained.text.find("legacy-form"), std::string::npos, "%s", explained.text.c_str());
  cr_assert_eq(explained.text.find("sesame"), std::string::npos);
}
