// plumb connect and plumb serve on datagrams, which have no end of their own.
#include <criterion/criterion.h>

#include "tests/e2e/host.hh"
#include "tests/e2e/udp_kit.hh"

using namespace kit;

namespace {
/// A host whose raw port leads to pong, or whose hop does.
Host raw_host() {
  return Host{{"--allow", "in", "pong", "udp:127.0.0.1"},
              "[[listen]]\nuri = \"udp://127.0.0.1:0\"\nservice = \"pong\"\n"};
}
Host hop_host() { return Host{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}; }

std::string udp(const Host& host) { return "udp://127.0.0.1:" + std::to_string(host.port()) + "/pong"; }

Process serve(const Host& host, std::vector<std::string> options, std::vector<std::string> program) {
  std::vector<std::string> args{binary("plumb"), "serve", "pong", "--rundir", host.rundir()};
  args.insert(args.end(), options.begin(), options.end());
  args.emplace_back("--");
  args.insert(args.end(), program.begin(), program.end());
  Process process{Command{.args = std::move(args)}};
  process.wait_for_error("serving pong");
  return process;
}
}  // namespace

Test(plumb_datagrams, more_peers_than_programs_are_served_as_the_earlier_ones_fall_silent) {
  const auto host = raw_host();
  const auto process = serve(host, {"--max", "2", "--idle", "0.2"}, {"cat"});
  std::vector<ipc::Fd> peers;
  for (int i = 0; i < 5; ++i) {
    peers.push_back(udp_to(host.port()));
    send_datagram(peers.back().borrow(), "ping");
    cr_assert(receive_datagram(peers.back().borrow()) == "ping", "peer %d", i);
  }
  cr_assert(eventually([&] { return descendants(process.pid()).empty(); }));
  send_datagram(peers.front().borrow(), "again");
  cr_assert(receive_datagram(peers.front().borrow()) == "again");
}

Test(plumb_datagrams, a_flow_that_was_begun_by_a_hop_ends_in_silence_too) {
  const auto far = hop_host();
  const Host near;
  const auto process = serve(far, {"--idle", "0.2"}, {"sh", "-c", "cat; echo over >&2"});
  auto door = near.door();
  const auto client = door.call("connect", ask("pong", "pong " + udp(far))).take_fd();
  process.wait_for_error("over");
}

Test(plumb_datagrams, a_program_reads_the_end_when_its_peer_is_gone_and_what_came_before) {
  // Its answers are how it is found out that the peer is gone; it may hear of that itself when it writes.
  const std::string program =
      "import os, contextlib\n"
      "while part := os.read(0, 65536):\n"
      "    os.write(2, part)\n"
      "    with contextlib.suppress(BrokenPipeError):\n"
      "        for _ in range(100): os.write(1, part)\n"
      "os.write(2, b'over')\n";
  const auto host = raw_host();
  const auto process = serve(host, {}, {"python3", "-c", program});
  {
    const auto peer = udp_to(host.port());
    for (const auto* word : {"one", "two"}) send_datagram(peer.borrow(), word);
  }
  process.wait_for_error("onetwoover");
}

Test(plumb_datagrams, the_last_words_of_a_program_reach_its_peer) {
  const auto host = raw_host();
  const auto process = serve(host, {}, {"sh", "-c", "echo one; echo two; echo three"});
  const auto peer = udp_to(host.port());
  for (const auto* word : {"a", "b", "c"}) send_datagram(peer.borrow(), word);
  for (const auto* word : {"one\n", "two\n", "three\n"})
    cr_assert(receive_datagram(peer.borrow()) == word, "%s", word);
}

Test(plumb_datagrams, without_a_limit_the_program_has_the_socket_itself) {
  const auto far = hop_host();
  const Host near;
  const auto process = serve(
      far, {"--idle", "0"},
      {"python3", "-c", "import socket, sys; print(socket.socket(fileno=0).family.name, file=sys.stderr)"});
  auto door = near.door();
  const auto client = door.call("connect", ask("pong", "pong " + udp(far))).take_fd();
  process.wait_for_error("AF_INET\n");
}

Test(plumb_datagrams, a_port_that_nobody_has_fails_however_many_are_sent) {
  const Host host;
  const auto closed = "udp://127.0.0.1:" + std::to_string(port_of(udp_socket().borrow()));
  for (int i = 0; i < 20; ++i) {
    const auto outcome = run({.args = {binary("plumb"), "connect", closed, "--rundir", host.rundir()}},
                             std::string(20'000, 'x'));
    cr_assert_eq(outcome.status, 5, "%s", outcome.error.c_str());
    cr_assert(outcome.error.find("Connection refused") != std::string::npos, "%s", outcome.error.c_str());
  }
}
