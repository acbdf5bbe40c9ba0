// Clients, services, the C interface and plumb with the real router and tcpd.
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "ipc/client.hh"
#include "ipc/message.hh"
#include "ipc/service.hh"
#include "tests/e2e/host.hh"

using namespace std::chrono_literals;
using ipc::Word;
using kit::Host;

namespace {
bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

kit::Command plumb(const Host& host, std::vector<std::string> args) {
  args.insert(args.begin(), {kit::binary("plumb"), "--rundir", host.rundir()});
  return {.args = std::move(args), .env = {"IPC_NETWORKD", "IPC_NETWORK"}};
}

Host far_host() { return Host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}}; }

ipc::Service serve(const Host& host, std::string_view name = "pong") {
  return kit::must(ipc::Service::serve(name, {.rundir = host.rundir()}));
}

/// A router in the run directory of one that ended.
kit::Process next_router(const Host& host) {
  kit::Process router{{kit::binary("plumberd"), "--rundir", host.rundir(), "--config", "/dev/null"}};
  router.wait_for_error("ready in ");
  return router;
}

bool is_held_by_a_daemon(Host& host, int fd) {
  auto pids = kit::descendants(host.router().pid());
  pids.push_back(host.router().pid());
  return std::ranges::any_of(pids, [&](pid_t pid) { return kit::holds_socket(pid, kit::inode_of(fd)); });
}
}  // namespace

Test(client_e2e, a_local_service_is_reached_and_told_who_came) {
  Host host;
  auto service = serve(host);
  ipc::Client client{host.rundir()};
  const auto connection = kit::must(client.connect("pong", {.networkd = "", .labels = {{"trace", "t1"}}}));
  const auto caller = kit::must(service.accept(10s));
  kit::expect_joined(connection.fd.borrow(), caller.fd.borrow());
  cr_assert_eq(connection.path, "direct");
  cr_assert_eq(caller.labels.at("client.uid"), std::to_string(::getuid()));
  cr_assert_eq(caller.labels.at("claimed.trace"), "t1");
}

Test(client_e2e, a_service_that_restarts_is_reached_again) {
  Host host;
  ipc::Client client{host.rundir()};
  { const auto first = serve(host); }
  const auto gone = [&] {
    return client.connect("pong", {.networkd = ""}).error().word == Word::unknown_service;
  };
  cr_assert(kit::eventually([&] { return !client.connect("pong", {.networkd = ""}) && gone(); }));
  auto second = serve(host);
  const auto connection = kit::must(client.connect("pong", {.networkd = ""}));
  kit::expect_joined(connection.fd.borrow(), kit::must(second.accept(10s)).fd.borrow());
}

Test(client_e2e, after_a_router_restart_services_and_kept_clients_come_back_and_old_connections_live_on) {
  Host host;
  auto service = serve(host);
  ipc::Client client{host.rundir()};
  const auto old = kit::must(client.connect("pong", {.networkd = ""}));
  const auto old_caller = kit::must(service.accept(10s));
  cr_assert_eq(host.router().stop(), 0);
  cr_assert_eq(client.connect("pong", {.networkd = ""}).error().word, Word::no_router);
  const auto router = next_router(host);
  cr_assert(kit::eventually([&] {
    const auto idle = service.accept(20ms);
    return !idle && idle.error().word == Word::timeout && service.is_registered();
  }));
  const auto connection = kit::must(client.connect("pong", {.networkd = ""}));
  kit::expect_joined(connection.fd.borrow(), kit::must(service.accept(10s)).fd.borrow());
  kit::expect_joined(old.fd.borrow(), old_caller.fd.borrow());
}

Test(client_e2e, a_connection_across_hosts_is_one_tcp_socket_that_no_daemon_holds) {
  Host near;
  Host far = far_host();
  auto service = serve(far);
  ipc::Client client{near.rundir()};
  const auto connection = kit::must(client.connect("pong", {.networkd = "pong " + far.uri("pong")}));
  const auto caller = kit::must(service.accept(10s));
  kit::expect_joined(connection.fd.borrow(), caller.fd.borrow());
  cr_assert_eq(connection.path, "direct");
  cr_assert_eq(caller.labels.at("scheme"), "tcp");
  cr_assert_eq(caller.labels.at("peer.address"), "127.0.0.1");
  cr_assert(kit::eventually([&] {
    return !is_held_by_a_daemon(near, connection.fd.borrow()) &&
           !is_held_by_a_daemon(far, caller.fd.borrow());
  }));
}

Test(client_e2e, messages_survive_every_fragmentation_on_a_handed_over_tcp_socket) {
  Host near;
  Host far = far_host();
  auto service = serve(far);
  ipc::Client client{near.rundir()};
  auto connection = kit::must(client.connect("pong", {.networkd = "pong " + far.uri("pong")}));
  const auto caller = kit::must(service.accept(10s));
  ipc::MessageSocket socket{std::move(connection.fd)};
  const auto large = ipc::frame_07(ipc::FrameType::data, 2, std::string(300'000, 'l'));
  std::jthread sender{[&] {
    const auto small = ipc::frame_07(ipc::FrameType::data, 1, "small");
    for (const char byte : small) kit::send_all(caller.fd.borrow(), {&byte, 1});
    kit::send_all(caller.fd.borrow(), small + small + large.substr(0, 100'001));
    kit::send_all(caller.fd.borrow(), large.substr(100'001) + small);
    ::shutdown(caller.fd.borrow(), SHUT_WR);
  }};
  for (const std::size_t size : {5, 5, 5, 300'000, 5})
    cr_assert_eq(kit::must(socket.receive(20s)).value_or(ipc::Message{}).payload.size(), size);
  cr_assert_not(kit::must(socket.receive(20s)));
}

Test(client_e2e, what_the_far_side_refuses_is_marked_as_its_word) {
  Host near;
  Host far = far_host();
  ipc::Client client{near.rundir()};
  const auto refused = client.connect("other", {.networkd = "other " + far.uri("other")});
  cr_assert_eq(refused.error().word, Word::denied);
  cr_assert(refused.error().far);
}

Test(client_e2e, a_unix_uri_leads_to_the_local_service) {
  Host host;
  const auto listener = kit::listen_unix(host / "plain");
  const auto connection = kit::must(ipc::Client{host.rundir()}.connect_uri("unix:///plain"));
  const auto accepted = kit::accept_from(listener);
  kit::expect_joined(connection.fd.borrow(), accepted.borrow());
}

Test(client_e2e, the_c_program_serves_and_connects_through_the_router) {
  Host host;
  const std::vector<std::string> env{"IPC_RUNDIR=" + host.rundir(), "IPC_NETWORKD", "IPC_NETWORK"};
  kit::Process service{kit::Command{.args = {kit::binary("ipc-c-test"), "serve", "pong"}, .env = env}};
  kit::wait_for_file(host / "pong");
  const auto client = kit::run({.args = {kit::binary("ipc-c-test"), "connect", "pong"}, .env = env});
  cr_assert_eq(client.status, 0, "%s", client.error.c_str());
  cr_assert(has(client.output, "path direct\n") && has(client.output, "message 7 hello\n"), "%s",
            client.output.c_str());
  cr_assert_eq(service.wait(), 0, "%s", service.error().c_str());
  cr_assert(has(service.output(), "uid " + std::to_string(::getuid()) + "\n"));
}

Test(client_e2e, plumb_serves_pings_connects_and_comes_back_after_a_router_restart) {
  Host host;
  kit::Process server{
      plumb(host, {"serve", "pong", "--", "sed", "-u", "s/^.*$/pong from $PLUMB_CLIENT_UID/"})};
  server.wait_for_error("serving pong");
  const auto answer = kit::run(plumb(host, {"connect", "pong"}), "ping\n");
  cr_assert_eq(answer.output, "pong from $PLUMB_CLIENT_UID\n", "%s", answer.error.c_str());
  cr_assert(has(kit::run(plumb(host, {"ping", "pong"})).output, "pong: direct in "));
  cr_assert(has(kit::run(plumb(host, {"ping"})).output, ": answered in "));
  cr_assert(has(kit::run(plumb(host, {"ls"})).output, "\npong  "));
  cr_assert_eq(host.router().stop(), 0);
  cr_assert_eq(kit::run(plumb(host, {"connect", "pong"}), "ping\n").status, 4);
  const auto router = next_router(host);
  cr_assert(kit::eventually([&] { return kit::run(plumb(host, {"connect", "pong"}), "x\n").status == 0; }));
  cr_assert_eq(server.stop(), 0);
  cr_assert_eq(kit::run(plumb(host, {"connect", "pong"})).status, 3);
}

Test(client_e2e, plumb_reaches_a_real_redis_by_its_uri) {
  if (!kit::installed("redis-server")) cr_skip_test("redis-server is not installed");
  Host host;
  const auto port = std::to_string(kit::free_port());
  kit::Process redis{
      {"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}};
  redis.wait_for_output("Ready to accept connections");
  const auto answer = kit::run(plumb(host, {"connect", "tcp://127.0.0.1:" + port}), "PING\r\nQUIT\r\n");
  cr_assert_eq(answer.output, "+PONG\r\n+OK\r\n", "%s", answer.error.c_str());
  cr_assert_eq(answer.status, 0);
}

Test(client_e2e, plumb_passes_the_tcp_socket_itself_to_what_ssh_would_be) {
  Host host;
  kit::TcpServer server{kit::pong};
  // What OpenSSH does with ProxyUseFdpass: a socket pair as the proxy's standard streams, one byte, one
  // descriptor.
  const auto ssh = std::string(
      "import array,socket,subprocess,sys\n"
      "a,b=socket.socketpair()\n"
      "p=subprocess.Popen(sys.argv[1:],stdin=b,stdout=b); b.close()\n"
      "data,anc,flags,_=a.recvmsg(1,socket.CMSG_SPACE(4))\n"
      "fd=array.array('i',anc[0][2])[0]; assert p.wait()==0 and len(data)==1\n"
      "s=socket.socket(fileno=fd); print(s.family.name,s.getpeername()[1])\n"
      "s.sendall(b'ping\\n'); print(s.recv(9).decode(),end='')\n");
  const auto uri = "tcp://127.0.0.1:" + std::to_string(server.port());
  const auto outcome = kit::run({.args = {"python3", "-c", ssh, kit::binary("plumb"), "connect", "--fdpass",
                                          uri, "--rundir", host.rundir()}});
  cr_assert_eq(outcome.output, "AF_INET " + std::to_string(server.port()) + "\npong\n", "%s",
               outcome.error.c_str());
}

Test(client_e2e, a_denied_connection_names_its_rule_and_explain_says_the_same) {
  Host host{{"--deny", "out", "pong", "tcp:127.0.0.1"}};
  const std::string networkd = "pong tcp://127.0.0.1:1/pong";
  const auto denied = kit::run(plumb(host, {"connect", "pong", "--networkd", networkd}));
  cr_assert_eq(denied.status, 1, "%s", denied.error.c_str());
  cr_assert(has(denied.error, "deny out pong tcp:127.0.0.1"), "%s", denied.error.c_str());
  const auto explained = kit::run(plumb(host, {"explain", "pong", "--networkd", networkd}));
  cr_assert_eq(explained.status, 1, "%s", explained.error.c_str());
  cr_assert(has(explained.output, "verdict  deny by \"deny out pong tcp:127.0.0.1\""), "%s",
            explained.output.c_str());
  const auto events = kit::run(plumb(host, {"events", "--count", "1"}));
  cr_assert(has(events.output, " deny out pong"), "%s", events.output.c_str());
}

Test(client_e2e, every_listing_is_one_json_value_and_readable_text) {
  Host host{{"--allow", "local", "*", "*"}};
  const auto service = serve(host);
  for (const auto& args : std::vector<std::vector<std::string>>{{"ls"},
                                                                {"status"},
                                                                {"rules"},
                                                                {"metrics"},
                                                                {"explain", "pong"},
                                                                {"ping", "pong"},
                                                                {"connect", "pong"},
                                                                {"reload"}}) {
    auto with_json = args;
    with_json.emplace_back("--json");
    const auto json = kit::run(plumb(host, with_json));
    cr_assert_eq(json.status, 0, "%s: %s%s", args[0].c_str(), json.output.c_str(), json.error.c_str());
    cr_assert(kit::must(ipc::JsonDocument::parse(json.output)).root().is_object(), "%s", json.output.c_str());
    if (args[0] == "connect") continue;
    const auto words = kit::run(plumb(host, args));
    cr_assert(words.status == 0 && !words.output.empty(), "%s: %s", args[0].c_str(), words.error.c_str());
  }
}
