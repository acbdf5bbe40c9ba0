// The router with real sockets: its directory, guarded services, two hosts and the socket between them.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, level, name, &value, &size);
  return value;
}

Host far_host(const std::string& peer = "tcp:127.0.0.1") {
  return Host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", peer}};
}
}  // namespace

Test(router, wrong_usage_names_the_option_or_what_the_shell_may_have_done) {
  const auto said = [](std::vector<std::string> args) {
    args.insert(args.begin(), kit::binary("plumberd"));
    const auto outcome = kit::run({.args = std::move(args)});
    cr_assert_eq(outcome.status, 2);
    return outcome.error;
  };
  const auto mistyped = said({"--confg", "ok.toml"});
  cr_assert(mistyped.find("no option --confg; did you mean --config?") != std::string::npos, "%s",
            mistyped.c_str());
  cr_assert(mistyped.find("quote") == std::string::npos, "%s", mistyped.c_str());
  for (const auto* kind : {"--route", "--redirect", "--allow"}) {
    const auto expanded = said({kind, "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"});
    cr_assert(expanded.find("quote the *") != std::string::npos, "%s", expanded.c_str());
  }
}

Test(router, a_second_one_on_the_same_directory_is_refused_and_told_who_holds_it) {
  Host host;
  const auto second =
      kit::run({.args = {kit::binary("plumberd"), "--rundir", host.rundir(), "--config", "/dev/null"}});
  cr_assert_eq(second.status, 1);
  cr_assert(second.error.find("pid " + std::to_string(host.router().pid())) != std::string::npos, "%s",
            second.error.c_str());
}

Test(router, replaces_the_sockets_of_one_that_crashed) {
  Host host;
  host.router().kill();
  cr_assert_eq(::access((host / "plumberd").c_str(), F_OK), 0, "a killed router leaves its socket");
  kit::Process next{{kit::binary("plumberd"), "--rundir", host.rundir(), "--config", "/dev/null"}};
  next.wait_for_error("ready in ");
  auto door = host.door();
  cr_assert_eq(door.call("ping", "{}").word(), "");
}

Test(router, ends_cleanly_and_takes_its_sockets_along) {
  Host host;
  const Offer offer{host, "pong"};
  cr_assert_eq(host.router().stop(), 0);
  for (const auto* name : {"plumberd", "network", "ipc", "pong"})
    cr_assert_neq(::access((host / name).c_str(), F_OK), 0, "%s", name);
}

Test(router, refuses_a_run_directory_that_belongs_to_somebody_else) {
  if (::geteuid() != 0) cr_skip("needs root");
  kit::TempDir dir;
  ::mkdir((dir / "run").c_str(), 0755);
  cr_assert_eq(::chown((dir / "run").c_str(), 1, 1), 0);
  const auto outcome =
      kit::run({.args = {kit::binary("plumberd"), "--rundir", dir / "run", "--config", "/dev/null"}});
  cr_assert_eq(outcome.status, 1);
  cr_assert(outcome.error.find("belongs to daemon") != std::string::npos, "%s", outcome.error.c_str());
}

Test(router, opens_its_doors_to_everybody) {
  Host host;
  for (const auto* name : {"plumberd", "network", "ipc"}) {
    struct stat status {};
    cr_assert_eq(::stat((host / name).c_str(), &status), 0);
    cr_assert_eq(status.st_mode & 07777, 0666U);
  }
}

Test(guarded, service_gets_the_socket_that_its_client_opened) {
  Host host;
  Offer offer{host, "pong"};
  const auto client = kit::connect_unix(host / "pong");
  const auto [socket, labels] = offer.accept();
  ucred peer{};
  socklen_t size = sizeof peer;
  cr_assert_eq(::getsockopt(socket.borrow(), SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
  cr_assert_eq(peer.pid, ::getpid(), "SO_PEERCRED stays the client's");
  cr_assert_eq(labels.at("client.uid"), std::to_string(::getuid()));
  kit::expect_joined(client.borrow(), socket.borrow());
}

Test(guarded, name_cannot_be_taken_twice_and_is_free_again_when_the_channel_closes) {
  Host host;
  {
    const Offer offer{host, "pong"};
    auto other = host.door();
    cr_assert_eq(other.call("serve", ask("pong")).word(), "TAKEN");
  }
  cr_assert(kit::eventually([&] { return ::access((host / "pong").c_str(), F_OK) != 0; }));
  const Offer again{host, "pong"};
}

Test(guarded, shared_name_is_served_in_turn) {
  Host host;
  Offer one{host, "pong", true};
  Offer two{host, "pong", true};
  const auto a = kit::connect_unix(host / "pong");
  const auto b = kit::connect_unix(host / "pong");
  const auto first = one.accept();
  const auto second = two.accept();
}

Test(guarded, connection_through_the_door_arrives_with_claims_marked_as_such) {
  Host host;
  Offer offer{host, "pong"};
  auto client = host.door();
  auto answer = client.call("connect", R"({"service":"pong","labels":{"user":"alice"}})");
  const auto fd = answer.take_fd();
  const auto [socket, labels] = offer.accept();
  cr_assert_eq(labels.at("claimed.user"), "alice");
  cr_assert_eq(labels.count("user"), 0);
  kit::expect_joined(fd.borrow(), socket.borrow());
}

Test(two_hosts, client_and_service_hold_the_two_ends_of_one_tcp_connection_and_nobody_else_does) {
  auto far = far_host();
  Host near;
  Offer offer{far, "pong"};
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + far.uri("pong")));
  cr_assert_eq(answer.result()["path"].string_or(""), "direct");
  const auto fd = answer.take_fd();
  const auto [socket, labels] = offer.accept();
  kit::expect_joined(fd.borrow(), socket.borrow());
  cr_assert_eq(option(fd.borrow(), SOL_SOCKET, SO_DOMAIN), AF_INET);
  for (const pid_t pid : {near.router().pid(), far.router().pid(), near.helper("tcpd"), far.helper("tcpd")})
    for (const int end : {fd.borrow(), socket.borrow()})
      cr_assert(kit::eventually([&] { return !kit::holds_socket(pid, kit::inode_of(end)); }),
                "pid %d holds it", pid);
}

Test(two_hosts, handed_over_socket_is_blocking_close_on_exec_and_kept_alive) {
  auto far = far_host();
  Host near;
  Offer offer{far, "pong"};
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + far.uri("pong")));
  const auto fd = answer.take_fd();
  const auto accepted = offer.accept();
  for (const int end : {fd.borrow(), accepted.first.borrow()}) {
    cr_assert_eq(::fcntl(end, F_GETFL) & O_NONBLOCK, 0);
    cr_assert_eq(option(end, IPPROTO_TCP, TCP_NODELAY), 1);
    cr_assert_eq(option(end, SOL_SOCKET, SO_KEEPALIVE), 1);
    cr_assert_eq(option(end, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    cr_assert_eq(option(end, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    cr_assert_eq(option(end, IPPROTO_TCP, TCP_KEEPCNT), 6);
  }
}

Test(two_hosts, refusal_of_the_far_side_comes_back_as_its_word_and_is_marked) {
  auto far = far_host("tcp:192.0.2.1");
  Host near;
  const Offer offer{far, "pong"};
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + far.uri("pong")));
  cr_assert_eq(answer.word(), "DENIED");
  cr_assert(answer.message->failure.far);
  cr_assert(answer.message->failure.text.starts_with("127.0.0.1 says: "), "%s",
            answer.message->failure.text.c_str());
}

Test(two_hosts, service_that_is_allowed_and_absent_is_unknown_to_those_who_may_know) {
  auto far = far_host();
  Host near;
  auto client = near.door();
  cr_assert_eq(client.call("connect", ask("pong", "pong " + far.uri("pong"))).word(), "UNKNOWN_SERVICE");
  cr_assert_eq(client.call("connect", ask("other", "other " + far.uri("other"))).word(), "DENIED");
}

Test(two_hosts, unguarded_service_is_reached_through_a_relay) {
  auto far = far_host();
  Host near;
  const auto listener = kit::listen_unix(far / "pong");
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + far.uri("pong")));
  const auto fd = answer.take_fd();
  const auto socket = kit::accept_from(listener);
  kit::expect_joined(fd.borrow(), socket.borrow());
  ::shutdown(fd.borrow(), SHUT_WR);
  cr_assert_eq(kit::receive_all(socket.borrow()), "", "a half-close goes through");
  kit::send_all(socket.borrow(), "late");
  ::shutdown(socket.borrow(), SHUT_WR);
  cr_assert_eq(kit::receive_all(fd.borrow()), "late");
}

Test(two_hosts, relayed_connection_outlives_its_router) {
  auto far = far_host();
  Host near;
  const auto listener = kit::listen_unix(far / "pong");
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + far.uri("pong")));
  const auto fd = answer.take_fd();
  const auto socket = kit::accept_from(listener);
  far.router().kill();
  near.router().kill();
  kit::expect_joined(fd.borrow(), socket.borrow());
}

Test(raw, target_reaches_any_tcp_server) {
  Host host;
  kit::TcpServer server{kit::pong};
  auto client = host.door();
  auto answer = client.call("connect", ask("any", "any tcp://127.0.0.1:" + std::to_string(server.port())));
  const auto fd = answer.take_fd();
  kit::send_all(fd.borrow(), "ping\n");
  cr_assert_eq(kit::receive_exactly(fd.borrow(), 5), "pong\n");
}

Test(raw, target_that_refuses_is_unreachable) {
  Host host;
  auto client = host.door();
  const auto port = std::to_string(kit::free_port());
  auto answer = client.call("connect", R"({"uri":"tcp://127.0.0.1:)" + port + R"("})");
  cr_assert_eq(answer.word(), "UNREACHABLE");
}

Test(rules, deny_what_they_deny_and_name_the_rule) {
  Host host{{"--deny", "out", "secret", "*"}};
  auto client = host.door();
  auto answer = client.call("connect", ask("secret", "secret tcp://127.0.0.1:9"));
  cr_assert_eq(answer.word(), "DENIED");
  cr_assert_eq(answer.message->failure.rule, "deny out secret *");
  cr_assert_eq(answer.message->failure.at, "command line:1");
}

Test(rules, judge_the_name_finally_opened_not_the_one_asked) {
  Host host{{"--deny", "out", "authd", "*"}};
  auto client = host.door();
  cr_assert_eq(client.call("connect", ask("pong", "pong tcp://127.0.0.1:9/authd")).word(), "DENIED");
}

Test(rules, judge_the_address_that_a_name_resolves_to) {
  Host host{{"--deny", "out", "*", "tcp:127.0.0.0/8", "--deny", "out", "*", "tcp:[::1]"}};
  kit::TcpServer server{kit::pong};
  auto client = host.door();
  const auto port = std::to_string(server.port());
  cr_assert_eq(client.call("connect", R"({"uri":"tcp://localhost:)" + port + R"("})").word(), "DENIED");
}

Test(helper, that_dies_is_missed_at_once_and_started_again) {
  Host host;
  kit::TcpServer server{kit::pong};
  auto client = host.door();
  const auto params = R"({"uri":"tcp://127.0.0.1:)" + std::to_string(server.port()) + R"("})";
  cr_assert(client.call("connect", params).take_fd());
  ::kill(host.helper("tcpd"), SIGKILL);
  host.router().wait_for_error("helper tcpd ");
  cr_assert(client.call("connect", params).take_fd(), "the next request starts it again");
}

Test(metrics, are_served_over_http_on_the_builtin_socket_and_accepted_by_promtool) {
  const Host host{{"--deny", "local", "*", "unix:/tmp/%22%5C"}};
  auto client = host.door();
  client.call("connect", ask("nobody"));
  client.call("connect", R"({"uri":"unix:///tmp/%22%5C"})");
  const auto socket = kit::connect_unix(host / "plumberd.metrics");
  kit::send_all(socket.borrow(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto answer = kit::receive_all(socket.borrow());
  cr_assert(answer.starts_with("HTTP/1.0 200 OK\r\n"), "%s", answer.c_str());
  const auto body = answer.substr(answer.find("\r\n\r\n") + 4);
  for (const auto* line :
       {"plumberd_errors_total{word=\"UNKNOWN_SERVICE\"} 1\n", "plumberd_requests_total 2\n"})
    cr_assert(body.find(line) != std::string::npos, "%s", body.c_str());
  kit::must_please_promtool(body);
}

Test(metrics, count_what_rules_decided_those_first_that_decided_most) {
  const Host host{{"--deny", "out", "a", "*", "--deny", "out", "b", "*", "--deny", "out", "c", "*"}};
  auto client = host.door();
  for (const auto* name : {"b", "a", "b"})
    client.call("connect", ask(name, std::string(name) + " tcp://127.0.0.1:9"));
  const auto answer = client.call("metrics", "{}");
  const auto text = answer.result()["text"].string_or("");
  const auto b = text.find("plumberd_rule_hits_total{rule=\"deny out b *\",at=\"command line:2\"} 2\n");
  const auto a = text.find("plumberd_rule_hits_total{rule=\"deny out a *\",at=\"command line:1\"} 1\n");
  cr_assert(b != text.npos && a != text.npos && b < a, "%s", std::string(text).c_str());
  cr_assert_eq(text.find("deny out c"), text.npos);
}

Test(metrics, can_be_exposed_to_other_hosts_by_a_raw_listener) {
  Host host{{},
            "rules = [\"allow in plumberd.metrics tcp:127.0.0.1\"]\n[[listen]]\nuri = "
            "\"tcp://127.0.0.1:0\"\nservice = \"plumberd.metrics\"\n"};
  const auto socket = kit::connect_tcp(host.port());
  kit::send_all(socket.borrow(), "GET / HTTP/1.0\r\n\r\n");
  cr_assert(kit::receive_all(socket.borrow()).find("plumberd_build_info") != std::string::npos);
}

Test(metrics, are_for_operators_and_whom_a_rule_names_by_them) {
  if (::geteuid() != 0) cr_skip("needs root");
  constexpr unsigned scraper = 7, other = 8;
  const Host host{{"--allow", "local", "plumberd.metrics", "user:7", "--allow", "local", "*", "*"}};
  host.open_to_all();
  const auto status_for = [&](unsigned uid) {
    const auto got =
        kit::run({.args = {"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
                           host / "plumberd.metrics", "http://localhost/metrics"},
                  .uid = uid});
    return got.output;
  };
  cr_assert_eq(status_for(0), "200");
  cr_assert_eq(status_for(scraper), "200");
  cr_assert_eq(status_for(other), "403");
  auto client = host.door();
  cr_assert_eq(client.call("connect", ask("plumberd.metrics")).word(), "BAD_REQUEST", "the name is reserved");
}

Test(router, takes_a_reload_that_is_asked_for_before_it_is_ready) {
  const kit::TempDir dir;
  kit::write_file(dir / "slow.sh",
                  "#!/bin/sh\nread word <" + (dir / "go") + "\nexec " + kit::binary("tcpd") + "\n");
  cr_assert_eq(::chmod((dir / "slow.sh").c_str(), 0755), 0);
  cr_assert_eq(::mkfifo((dir / "go").c_str(), 0600), 0);
  kit::write_file(dir / "p.toml", "[helpers.tcpd]\nexec = [\"" + (dir / "slow.sh") +
                                      "\"]\n[[listen]]\nuri = \"tcp://127.0.0.1:0\"\n");
  kit::Process router{{kit::binary("plumberd"), "--rundir", dir.path(), "--config", dir / "p.toml"}};
  kit::wait_for_file(dir / "plumberd.lock");
  router.signal(SIGHUP);
  kit::write_file(dir / "go", "go\n");  // returns when the helper reads
  router.wait_for_error("ready in");
  router.wait_for_error("reload: generation 2");
  cr_assert_eq(router.stop(), 0);
}

Test(events, since_takes_a_number_or_a_time_and_nothing_else) {
  const Host host;
  auto client = host.door();
  client.call("connect", ask("nobody"));
  const auto answer = client.call("events", R"({"follow":false})");
  const auto asked = [&](std::string_view since) {
    auto door = host.door();
    return door.call("events", R"({"follow":false,"since":)" + std::string(since) + "}");
  };
  cr_assert_eq(asked("1").word(), "");
  cr_assert_eq(asked(R"("2026-01-31T12:00:00Z")").word(), "");
  cr_assert_eq(asked(R"("2026-01-31T13:00:00.5+01:00")").word(), "");
  for (const auto* wrong :
       {R"("yesterday")", R"("12:00")", R"("2026-01-31")", "true", "-1", R"("2026-01-31T12:00:00")"})
    cr_assert_eq(asked(wrong).word(), "BAD_REQUEST", "%s", wrong);
}

Test(router, refuses_parameters_of_another_type_than_it_would_have_understood) {
  const Host host;
  auto door = host.door();
  for (const auto& [method, params] : std::vector<std::pair<const char*, const char*>>{
           {"reload", R"({"confirm":"30"})"},
           {"reload", R"({"confirm":1.5})"},
           {"reload", R"({"confirm":0})"},
           {"connect", R"({"service":"pong","networkd":5})"},
           {"connect", R"({"service":"pong","labels":{"a":5}})"},
           {"serve", R"({"service":"pong","shared":"yes"})"},
           {"events", R"({"count":-1})"},
           {"explain", R"({"service":"pong","direction":"sideways"})"}})
    cr_assert_eq(door.call(method, params).word(), "BAD_REQUEST", "%s %s", method, params);
  cr_assert_eq(door.call("connect", R"({"service":"pong","networkd":null})").word(), "UNKNOWN_SERVICE");
}
