// Too much of everything: connections, requests, descriptors, unread answers.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "ipc/frame.hh"
#include "tests/e2e/hostile.hh"

using namespace std::chrono_literals;
using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
std::string uri_params(const kit::TcpServer& server) {
  return R"({"uri":"tcp://127.0.0.1:)" + std::to_string(server.port()) + R"("})";
}

/// A router that is not root, so that descriptors in flight count.
struct Unprivileged {
  kit::TempDir dir;
  std::optional<kit::Process> router;
  explicit Unprivileged(std::size_t descriptors) {
    constexpr unsigned nobody = 65534;
    if (::chown(dir.path().c_str(), nobody, nobody) != 0) kit::give_up("chown");
    // Not by setrlimit(2) in this process: who may not raise a hard limit again would keep it.
    const auto limit = "--nofile=" + std::to_string(descriptors) + ":" + std::to_string(descriptors);
    router.emplace(kit::Command{
        .args = {"prlimit", limit, kit::binary("plumberd"), "--rundir", dir / "run", "--config", "/dev/null"},
        .uid = nobody});
    router->wait_for_error("ready in ");
  }
  kit::Wire door() const { return kit::Wire{dir / "run/plumberd"}; }
};

/// Until `count` answers came; how many were refusals.
int read_answers(kit::Wire& wire, int count) {
  int refused = 0;
  for (int i = 0; i < count; ++i) refused += wire.receive().word().empty() ? 0 : 1;
  return refused;
}
}  // namespace

Test(hostile_load, a_hundred_thousand_requests_at_once_are_all_answered_and_hold_nobody_up) {
  kit::free_memory_at_once();
  Host host;
  const auto before = kit::warmed_up(host);
  const auto memory = kit::vitals_of(host.router().pid()).memory_kib;
  constexpr int count = 100'000;
  auto flood = host.door();
  std::thread writer{[&] {
    for (int i = 0; i < count; ++i) {
      const auto text = ipc::rpc::request(std::to_string(i), "connect", ask("absent"));
      while (::send(flood.borrow(), text.data(), text.size(), MSG_NOSIGNAL) < 0 && errno == EINTR) {}
    }
  }};
  auto other = host.door();
  for (int i = 0; i < 20; ++i) {
    const kit::Deadline soon{5s};
    cr_assert_eq(other.call("ping", "{}").word(), "");
    cr_assert(!soon.passed());
  }
  cr_assert_eq(read_answers(flood, count), count);
  writer.join();
  const auto grown = kit::vitals_of(host.router().pid()).memory_kib;
  cr_assert_lt(grown, memory + 24 * 1024, "%zu KiB, then %zu KiB", memory, grown);
  flood.close();
  other.close();
  kit::expect_well(host, before);
}

Test(hostile_load, a_client_that_never_reads_is_not_read_from_and_costs_little) {
  kit::free_memory_at_once();
  Host host;
  const auto before = kit::warmed_up(host);
  const auto memory = kit::vitals_of(host.router().pid()).memory_kib;
  auto deaf = host.door();
  deaf.call("events", R"({"since":0})");
  const auto request = ipc::rpc::request("1", "metrics", "{}");
  for (int i = 0; i < 2000; ++i)
    if (::send(deaf.borrow(), request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
      ::poll(nullptr, 0, 1);
  const double cpu = kit::cpu_while(host.router().pid(), 300ms);
  cr_assert_lt(cpu, 30.0, "%.1f ms of CPU in 300", cpu);
  auto other = host.door();
  for (int i = 0; i < 3000; ++i) other.call("connect", ask("absent"));  // events for the deaf one
  const auto grown = kit::vitals_of(host.router().pid()).memory_kib;
  cr_assert_lt(grown, memory + 16 * 1024, "%zu KiB, then %zu KiB", memory, grown);
  deaf.close();
  other.close();
  kit::expect_well(host, before);
}

Test(hostile_load, a_client_that_never_takes_its_descriptors_gets_no_more_and_others_do) {
  if (::geteuid() != 0) cr_skip("needs root");
  const Unprivileged host{512};
  const kit::TcpServer server{kit::pong};
  std::vector<kit::Wire> deaf;
  for (int i = 0; i < 8; ++i) {
    auto& wire = deaf.emplace_back(host.door());
    for (int j = 0; j < 100; ++j)
      wire.send(ipc::rpc::request(std::to_string(j), "connect", uri_params(server)));
  }
  const auto good = [&] {
    auto door = host.door();
    auto answer = door.call("connect", uri_params(server));
    return answer.word().empty();
  };
  // The same user has nothing left, which it is told; another has.
  cr_assert(kit::eventually([&] { return !good(); }), "the bound is not reached");
  for (auto& wire : deaf) read_answers(wire, 100);
  cr_assert(kit::eventually(good), "who reads is served again");
}

Test(hostile_load, clients_that_hang_up_call_their_dials_off) {
  Host host;
  const auto before = kit::warmed_up(host);
  const pid_t tcpd = host.helper("tcpd");
  const auto idle = kit::open_fds(tcpd);
  const kit::TcpServer silent{kit::silent};
  const auto wish = "far tcp://127.0.0.1:" + std::to_string(silent.port()) + "/far";
  {
    std::vector<kit::Wire> doors;
    std::vector<ipc::Fd> lookups;
    for (int i = 0; i < 50; ++i) {
      doors.push_back(host.door());
      doors.back().send(ipc::rpc::request("1", "connect", ask("far", wish)));
      lookups.push_back(kit::connect_unix(host / (i % 2 == 0 ? "network" : "ipc")));
      const auto payload = "far;" + wish;
      kit::send_all(lookups.back().borrow(),
                    i % 2 == 0 ? ipc::frame_07(ipc::FrameType::lookup, 3, payload) : ipc::frame_1(payload));
    }
    cr_assert(kit::eventually([&] { return kit::open_fds(tcpd) >= idle + 100; }), "all are being dialled");
  }
  cr_assert(kit::eventually([&] { return kit::open_fds(tcpd) <= idle; }, 3s), "%zu, then %zu", idle,
            kit::open_fds(tcpd));
  kit::expect_well(host, before);
}

Test(hostile_load, five_thousand_connections_meet_the_limit_and_the_last_ones_are_told) {
  Host host;
  const auto before = kit::warmed_up(host);
  std::vector<ipc::Fd> all;
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    all.push_back(kit::connect_unix(host / "plumberd", SOCK_SEQPACKET));
    if (i < 4096) continue;
    kit::Wire wire{std::move(all.back())};
    refused += wire.receive().word() == "BUSY" ? 1 : 0;
  }
  cr_assert_geq(refused, 900);
  const double cpu = kit::cpu_while(host.router().pid(), 300ms);
  cr_assert_lt(cpu, 30.0, "%.1f ms of CPU in 300", cpu);
  const auto lookup = kit::connect_unix(host / "network");
  cr_assert(kit::receive_all(lookup.borrow()).find("BUSY") != std::string::npos);
  all.clear();
  cr_assert(kit::eventually([&] { return kit::open_fds(host.router().pid()) <= before; }));
  kit::expect_well(host, before);
}

Test(hostile_load, lookups_a_byte_at_a_time_end_with_the_request_timeout) {
  Host host{{}, "[limits]\nrequest_timeout = \"500ms\"\n"};
  const auto socket = kit::connect_unix(host / "network");
  const auto frame = ipc::frame_07(ipc::FrameType::lookup, 3, std::string(500, 'x'));
  const kit::Deadline late{5s};
  std::size_t sent = 0;
  while (!late.passed() && ::send(socket.borrow(), &frame[sent], 1, MSG_NOSIGNAL) == 1 &&
         ++sent < frame.size())
    ::poll(nullptr, 0, 50);
  cr_assert(!late.passed());
  cr_assert_lt(sent, 100U);
}

Test(hostile_load, a_router_without_descriptors_pauses_and_goes_on) {
  Host host;
  const auto before = kit::warmed_up(host);
  const pid_t router = host.router().pid();
  kit::leave_no_descriptors(router);
  std::vector<ipc::Fd> waiting;
  for (int i = 0; i < 50; ++i) waiting.push_back(kit::connect_unix(host / "plumberd", SOCK_SEQPACKET));
  for (const auto* door : {"network", "ipc", "plumberd.metrics"})
    waiting.push_back(kit::connect_unix(host / door));
  host.router().wait_for_error("out of descriptors");
  const double cpu = kit::cpu_while(router, 500ms);
  cr_assert_lt(cpu, 50.0, "%.1f ms of CPU in 500", cpu);
  kit::limit_descriptors(router, 4096);
  auto door = host.door();
  cr_assert_eq(door.call("ping", "{}").word(), "");
  waiting.clear();
  door.close();
  kit::expect_well(host, before);
}

Test(hostile_load, a_router_that_cannot_take_a_helpers_descriptor_says_so_and_keeps_the_helper) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}};
  kit::warmed_up(host);
  const pid_t tcpd = host.helper("tcpd");
  const auto port = host.port();
  const kit::TcpServer server{kit::pong};
  auto door = host.door();
  door.call("ping", "{}");
  const pid_t router = host.router().pid();
  kit::leave_no_descriptors(router);
  const auto word = door.call("connect", uri_params(server)).word();
  cr_assert(word == "BUSY" || word == "INTERNAL", "%s", word.c_str());
  kit::limit_descriptors(router, 4096);
  cr_assert(door.call("connect", uri_params(server)).take_fd());
  cr_assert_eq(host.helper("tcpd"), tcpd, "one connection was lost, not the helper");
  cr_assert_eq(host.port(), port);
}

Test(hostile_load, tcpd_without_descriptors_says_busy_pauses_and_goes_on) {
  Host host{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}};
  kit::warmed_up(host);
  Offer offer{host, "pong"};
  const auto port = host.port();
  const pid_t tcpd = host.helper("tcpd");
  const auto held = kit::open_fds(tcpd);
  const kit::TcpServer server{kit::pong};
  auto door = host.door();
  kit::leave_no_descriptors(tcpd);
  cr_assert_eq(door.call("connect", uri_params(server)).word(), "BUSY");
  std::vector<ipc::Fd> waiting;
  for (int i = 0; i < 20; ++i) {
    waiting.push_back(kit::connect_tcp(port));
    kit::send_all(waiting.back().borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, "pong"));
  }
  const double cpu = kit::cpu_while(tcpd, 500ms);
  cr_assert_lt(cpu, 50.0, "%.1f ms of CPU in 500", cpu);
  kit::limit_descriptors(tcpd, 4096);
  for (std::size_t i = 0; i < waiting.size(); ++i) cr_assert(offer.accept().first);
  cr_assert(kit::eventually([&] { return kit::open_fds(tcpd) <= held; }));
}
