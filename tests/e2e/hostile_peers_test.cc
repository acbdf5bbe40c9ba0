// Far ends and services that do not play by the rules: silent, slow, refusing, gone, lying.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/frame.hh"
#include "tests/e2e/hostile.hh"

using namespace std::chrono_literals;
using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
constexpr std::string_view short_times = R"([limits]
request_timeout = "2s"
hop_timeout = "1s"
)";

std::string uri_of(const kit::TcpServer& server, std::string_view service = {}) {
  return "tcp://127.0.0.1:" + std::to_string(server.port()) + "/" + std::string(service);
}

/// Answers whatever comes with `text`, a byte at a time.
kit::TcpServer::Serve says(std::string text, int pause_ms) {
  return [text = std::move(text), pause_ms](int socket) {
    for (const char c : text) {
      if (::send(socket, &c, 1, MSG_NOSIGNAL) != 1) return;
      if (pause_ms > 0) ::poll(nullptr, 0, pause_ms);
    }
    kit::receive_all(socket);
  };
}

std::string hop_word(Host& host, const kit::TcpServer& server) {
  auto door = host.door();
  return door.call("connect", ask("far", "far " + uri_of(server, "far"))).word();
}
}  // namespace

Test(hostile_servers, answer_the_hop_with_something_else) {
  Host host{{}, short_times};
  const auto before = kit::warmed_up(host);
  {
    const kit::TcpServer garbage{says(std::string(100, '\xee'), 0)};
    const kit::TcpServer http{says("HTTP/1.1 400 Bad Request\r\n\r\n", 0)};
    const kit::TcpServer huge{says(std::string("\x01\x7f\xff\xff\xff\0", 6), 0)};
    const kit::TcpServer lost{[](int) {}};
    for (const auto* server : {&garbage, &http, &huge, &lost})
      cr_assert_eq(hop_word(host, *server), "UNREACHABLE", "port %u", server->port());
  }
  kit::expect_well(host, before);
}

Test(hostile_servers, that_are_silent_or_slow_time_out) {
  Host host{{}, short_times};
  const auto before = kit::warmed_up(host);
  {
    const kit::TcpServer silent{kit::silent};
    const kit::TcpServer slow{says(ipc::frame_07(ipc::FrameType::data, 0, "OK, in a while"), 100)};
    for (const auto* server : {&silent, &slow}) cr_assert_eq(hop_word(host, *server), "TIMEOUT");
  }
  kit::expect_well(host, before);
}

Test(hostile_servers, that_refuse_with_control_bytes_cannot_write_to_the_terminal) {
  Host host{{}, short_times};
  const kit::TcpServer rude{
      says(ipc::frame_07(ipc::FrameType::error, 0, "DENIED: \x1b[31m\n" + std::string(3000, 'x')), 0)};
  auto door = host.door();
  const auto answer = door.call("connect", ask("far", "far " + uri_of(rude, "far")));
  cr_assert_eq(answer.word(), "DENIED");
  cr_assert_lt(answer.message->failure.text.size(), 400U);
  cr_assert(answer.message->failure.text.find('\x1b') == std::string::npos);
  cr_assert(answer.message->failure.text.find("says: \\x1b[31m\\x0a") != std::string::npos, "%s",
            answer.message->failure.text.c_str());
}

Test(hostile_diallers, that_stall_are_dropped_and_hold_nobody_up) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}, short_times};
  Offer offer{host, "pong"};
  const auto port = host.port();
  const pid_t tcpd = host.helper("tcpd");
  const auto before = kit::open_fds(tcpd);
  std::vector<ipc::Fd> stalled;
  for (int i = 0; i < 200; ++i) stalled.push_back(kit::connect_tcp(port));
  for (std::size_t i = 0; i < stalled.size(); i += 2) kit::send_all(stalled[i].borrow(), "\x03");
  const auto good = kit::connect_tcp(port);
  kit::send_all(good.borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, "pong"));
  offer.accept();
  for (const auto& socket : stalled) cr_assert(kit::is_readable(socket.borrow(), 5s), "it is told or closed");
  stalled.clear();
  cr_assert(kit::eventually([&] { return kit::open_fds(tcpd) <= before; }));
}

Test(hostile_diallers, that_send_garbage_are_refused) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "*", "tcp:127.0.0.1"}, short_times};
  const auto port = host.port();
  const auto answer_to = [&](const std::string& bytes) {
    const auto socket = kit::connect_tcp(port);
    kit::send_all(socket.borrow(), bytes);
    ::shutdown(socket.borrow(), SHUT_WR);
    return kit::receive_all(socket.borrow());
  };
  const auto json = [&](const std::string& text) {
    return answer_to(ipc::frame_07(ipc::FrameType::lookup, 4, text));
  };
  cr_assert(answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("\x01"));
  cr_assert(answer_to(ipc::frame_07(ipc::FrameType::lookup, 3, "../plumberd")).find("BAD_REQUEST: ") == 6);
  cr_assert(json("{").find("BAD_REQUEST: ") == 6);
  cr_assert(json(R"({"v":1,"v":1,"service":"a","hops":1})").find("BAD_REQUEST: ") == 6);
  cr_assert(json(R"({"v":1,"service":"a","hops":-1})").find("BAD_REQUEST: ") == 6);
  cr_assert(json(R"({"v":1,"service":"a","hops":99999999999})").find("LOOP: ") == 6);
  cr_assert(json(R"({"v":1,"service":"plumberd","hops":1})").find("BAD_REQUEST: ") == 6);
  cr_assert(json(R"({"v":1,"service":"absent","hops":1})").find("UNKNOWN_SERVICE: ") == 6);
}

Test(hostile_services, that_never_accept_are_busy_in_time_and_others_are_served) {
  Host host{{}, short_times};
  const Offer other{host, "other"};
  const auto before = kit::open_fds(host.router().pid());
  const auto full = kit::listen_unix(host / "full");
  ::listen(full.borrow(), 0);
  std::vector<ipc::Fd> queued;
  const auto is_full = [&] {
    ipc::Fd socket = kit::must(ipc::unix_socket(SOCK_STREAM));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (host / "full").copy(address.sun_path, sizeof address.sun_path - 1);
    if (::connect(socket.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      return true;
    queued.push_back(std::move(socket));
    return false;
  };
  while (!is_full()) {}
  auto waiting = host.door();
  cr_assert_eq(waiting.call("serve", ask("full")).word(), "TAKEN");
  for (int i = 0; i < 50; ++i) waiting.send(ipc::rpc::request(std::to_string(i), "connect", ask("full")));
  auto door = host.door();
  cr_assert(door.call("connect", ask("other")).take_fd());
  for (int i = 0; i < 50; ++i) cr_assert_eq(waiting.receive().word(), "BUSY");
  waiting.close();
  door.close();
  kit::expect_well(host, before);
}

Test(hostile_services, that_never_read_their_channel_are_busy_until_they_do) {
  Host host;
  Offer offer{host, "pong"};
  auto door = host.door();
  int taken = 0;
  std::string word;
  while (word.empty() && taken < 2000) {
    auto answer = door.call("connect", ask("pong"));
    word = answer.word();
    taken += word.empty() ? 1 : 0;
  }
  cr_assert_eq(word, "BUSY");
  cr_assert_lt(taken, 400, "what nobody reads is bounded");
  std::vector<ipc::Fd> local;
  for (int i = 0; i < 20; ++i) local.push_back(kit::connect_unix(host / "pong"));
  const double cpu = kit::cpu_while(host.router().pid(), 500ms);
  cr_assert_lt(cpu, 50.0, "waiting takes %.1f ms in 500", cpu);
  for (int i = 0; i < taken; ++i) offer.accept();
  for (std::size_t i = 0; i < local.size(); ++i) offer.accept();
  cr_assert(door.call("connect", ask("pong")).take_fd());
}

Test(hostile_services, get_every_client_of_a_burst_however_slowly_they_take_them) {
  Host host;
  Offer offer{host, "pong"};
  std::vector<ipc::Fd> clients;
  for (int i = 0; i < 600; ++i) clients.push_back(kit::connect_unix(host / "pong"));
  for (std::size_t i = 0; i < clients.size(); ++i) cr_assert(offer.accept().first);
}

Test(hostile_services, cannot_both_have_one_name) {
  Host host;
  std::vector<kit::Wire> thieves;
  for (int i = 0; i < 20; ++i) thieves.push_back(host.door());
  for (int round = 0; round < 20; ++round) {
    const auto name = "name" + std::to_string(round);
    for (auto& thief : thieves) thief.send(ipc::rpc::request("1", "serve", ask(name)));
    int owners = 0;
    for (auto& thief : thieves) {
      const auto word = thief.receive().word();
      owners += word.empty() ? 1 : 0;
      cr_assert(word.empty() || word == "TAKEN");
    }
    cr_assert_eq(owners, 1);
  }
}

Test(hostile_rundir, entries_that_are_no_sockets_of_their_own_lead_nowhere) {
  Host host;
  const kit::TempDir elsewhere;
  const auto secret = kit::listen_unix(elsewhere / "secret");
  kit::write_file(host / "file", "text");
  cr_assert_eq(::symlink((elsewhere / "secret").c_str(), (host / "link").c_str()), 0);
  cr_assert_eq(::link((elsewhere / "secret").c_str(), (host / "hard").c_str()), 0);
  cr_assert_eq(::mkdir((host / "dir").c_str(), 0700), 0);
  auto door = host.door();
  for (const auto* name : {"file", "link", "hard", "dir"})
    cr_assert_neq(door.call("connect", ask(name)).word(), "", "%s", name);
  cr_assert(!kit::is_readable(secret.borrow(), 0ms), "nobody connected");
  for (const auto* name : {"file", "link", "hard", "dir"})
    cr_assert_eq(door.call("serve", ask(name)).word(), "TAKEN", "%s", name);
}

Test(hostile_rundir, a_socket_that_becomes_a_link_while_the_router_waits_leads_nowhere) {
  Host host{{}, short_times};
  const kit::TempDir elsewhere;
  const auto secret = kit::listen_unix(elsewhere / "secret");
  const auto bait = kit::listen_unix(host / "bait");
  ::listen(bait.borrow(), 0);
  const auto filler = kit::connect_unix(host / "bait");
  auto door = host.door();
  door.send(ipc::rpc::request("1", "connect", ask("bait")));
  door.call("ping", "{}");  // the request before it waits for room in the backlog now
  cr_assert_eq(::symlink((elsewhere / "secret").c_str(), (host / "swap").c_str()), 0);
  cr_assert_eq(::rename((host / "swap").c_str(), (host / "bait").c_str()), 0);
  const auto answer = door.receive();
  cr_assert_neq(answer.word(), "");
  cr_assert(!kit::is_readable(secret.borrow(), 0ms), "the router opened what only it may open");
}

Test(hostile_rundir, of_another_router_is_left_alone) {
  kit::TempDir dir;
  const auto start = [&] {
    return kit::Process{{kit::binary("plumberd"), "--rundir", dir / "run", "--config", "/dev/null"}};
  };
  auto first = start();
  first.wait_for_error("ready in ");
  std::error_code ignored;
  for (const auto* name : {"plumberd", "network", "ipc", "plumberd.lock", "plumberd.metrics"})
    ::unlink((dir / ("run/" + std::string(name))).c_str());
  cr_assert_eq(::rmdir((dir / "run").c_str()), 0);
  auto second = start();
  second.wait_for_error("ready in ");
  cr_assert_eq(first.stop(), 0);
  kit::Wire door{dir / "run/plumberd"};
  cr_assert_eq(door.call("ping", "{}").word(), "");
}
