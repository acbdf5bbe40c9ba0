// Bytes that helpers carry are counted and told: `relayed` on the helper channel, and the router's metrics.
#include <criterion/criterion.h>
#include <signal.h>

#include "tests/e2e/host.hh"
#include "tests/e2e/tls_bench.hh"
#include "tests/e2e/udp_kit.hh"

using namespace kit;

namespace {
std::string metrics_of(const Host& host) {
  auto door = host.door();
  auto answer = door.call("metrics", "{}");
  return std::string(answer.result()["text"].string_or(""));
}

void expect_counted(const Host& host, const std::string& helper, int received, int sent) {
  const auto line = [&](const char* direction, int count) {
    return "plumberd_relayed_bytes_total{helper=\"" + helper + "\",direction=\"" + direction + "\"} " +
           std::to_string(count) + "\n";
  };
  cr_assert(eventually([&] {
              const auto text = metrics_of(host);
              return text.find(line("received", received)) != text.npos &&
                     text.find(line("sent", sent)) != text.npos;
            }),
            "%s", metrics_of(host).c_str());
}

/// The next report of the helper: what it carried from the network and to it, so far.
std::pair<std::int64_t, std::int64_t> next_report(ScriptedRouter& router) {
  const auto told = router.expect("relayed");
  return {told.message->params["received"].integer_or(-1), told.message->params["sent"].integer_or(-1)};
}

void expect_report(ScriptedRouter& router, std::int64_t received, std::int64_t sent) {
  for (auto told = next_report(router); told != std::pair{received, sent}; told = next_report(router)) {
    cr_assert_leq(told.first, received);
    cr_assert_leq(told.second, sent);
  }
}
}  // namespace

Test(relayed_bytes, of_streams_to_an_unguarded_service_are_in_the_metrics) {
  const Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}}, near;
  const auto listener = listen_unix(far / "pong");
  auto door = near.door();
  for (int round = 1; round <= 2; ++round) {
    const auto client = door.call("connect", ask("pong", "pong " + far.uri("pong"))).take_fd();
    const auto service = accept_from(listener);
    send_all(client.borrow(), std::string(20'000, 'x'));
    receive_exactly(service.borrow(), 20'000);
    send_all(service.borrow(), "answer");
    receive_exactly(client.borrow(), 6);
    expect_counted(far, "tcpd", 20'000 * round, 6 * round);
  }
  cr_assert_eq(metrics_of(near).find("plumberd_relayed_bytes_total{"), std::string::npos,
               "a handed-over socket is nobody's to count");
  must_please_promtool(metrics_of(far));
}

Test(relayed_bytes, stay_counted_when_the_helper_dies) {
  const Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}}, near;
  const auto listener = listen_unix(far / "pong");
  const auto uri = far.uri("pong");
  auto door = near.door();
  const auto carry = [&] {
    ipc::Fd client;
    cr_assert(eventually([&] {
      auto answer = door.call("connect", ask("pong", "pong " + uri));
      if (answer.word().empty()) client = answer.take_fd();
      return static_cast<bool>(client);
    }));
    const auto service = accept_from(listener);
    send_all(client.borrow(), "hello");
    receive_exactly(service.borrow(), 5);
  };
  carry();
  expect_counted(far, "tcpd", 5, 0);
  ::kill(far.helper("tcpd"), SIGKILL);
  carry();
  expect_counted(far, "tcpd", 10, 0);
}

Test(relayed_bytes, of_datagrams_are_in_the_metrics) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  const auto listener = listen_unix(far / "pong", SOCK_SEQPACKET);
  auto door = near.door();
  const auto uri = "udp://127.0.0.1:" + std::to_string(far.port()) + "/pong";
  const auto client = door.call("connect", ask("pong", "pong " + uri)).take_fd();
  const auto service = accept_from(listener);
  send_datagram(client.borrow(), "three");
  cr_assert(receive_datagram(service.borrow()) == "three");
  send_datagram(service.borrow(), "four");
  cr_assert(receive_datagram(client.borrow()) == "four");
  expect_counted(far, "udpd", 5, 4);
}

Test(relayed_bytes, of_messages_to_a_program_behind_udp_are_counted_once) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  const auto listener = listen_unix(far / "pong");
  const auto uri = "udp://127.0.0.1:" + std::to_string(far.port()) + "/pong";
  const auto lookup = connect_unix(near / "network");
  send_all(lookup.borrow(), ipc::frame_07(ipc::FrameType::lookup, 3, "pong;pong " + uri));
  const auto service = accept_from(listener);
  const auto message = ipc::frame_07(ipc::FrameType::data, 1, "hello");
  send_all(service.borrow(), message);
  expect_counted(far, "udpd", 0, static_cast<int>(message.size()));
  expect_counted(near, "udpd", static_cast<int>(message.size()), 0);
}

Test(relayed_bytes, of_tls_in_user_space_are_told) {
  DialBench bench;
  const auto socket = bench.dial({{"ktls", "off"}}).take_fd();
  must_echo(socket.borrow());
  expect_report(bench.router, 5, 5);
  must_echo(socket.borrow(), "again");
  expect_report(bench.router, 10, 10);
}

Test(relayed_bytes, are_not_told_while_nothing_is_carried) {
  DialBench bench;
  const auto socket = bench.dial({{"ktls", "off"}}).take_fd();
  must_echo(socket.borrow());
  expect_report(bench.router, 5, 5);
  cr_assert_not(is_readable(bench.router.wire().borrow(), 1500ms));
}
