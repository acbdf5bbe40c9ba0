// Two routers with udpd between them, as their users see it.
#include <criterion/criterion.h>
#include <sys/un.h>

#include "ipc/base64.hh"
#include "tests/e2e/host.hh"
#include "tests/e2e/udp_kit.hh"

using namespace kit;

namespace {
std::string udp(const Host& host, std::string_view path) {
  return "udp://127.0.0.1:" + std::to_string(host.port()) + std::string(path);
}

/// A datagram out of one, into the other.
void expect_passed(int from, int to, std::string_view bytes) {
  send_datagram(from, bytes);
  cr_assert(receive_datagram(to) == bytes);
}

constexpr Milliseconds a_minute = 60s;

/// Whether a name server at `port` knows pong.test (RFC 1035, section 4.1: type A, class IN, one answer).
bool knows_pong(std::uint16_t port) {
  constexpr std::string_view question{"\x12\x34\1\0\0\1\0\0\0\0\0\0\4pong\4test\0\0\1\0\1", 27};
  constexpr std::string_view answer{"\0\1\0\1", 4};  // the numbers of questions and of answers
  const auto socket = udp_to(port);
  ::send(socket.borrow(), question.data(), question.size(), 0);
  const auto got = receive_datagram(socket.borrow(), 500ms);
  return got && got->starts_with(question.substr(0, 2)) && got->substr(4, 4) == answer;
}

struct NameServer {
  std::uint16_t port;
  Process process;
};

/// A dnsmasq that answers; at another port if somebody else was quicker to take the first one.
NameServer name_server() {
  for (int tries = 1;; ++tries) {
    const auto port = port_of(udp_socket().borrow());
    Process process{{"dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
                     "--pid-file=", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root",
                     "--port=" + std::to_string(port), "--address=/pong.test/192.0.2.7"}};
    const bool settled = eventually([&] { return !process.is_running() || knows_pong(port); }, a_minute);
    if (settled && process.is_running()) return {port, std::move(process)};
    if (!settled || tries == 5) give_up("dnsmasq does not answer: " + process.error());
  }
}
}  // namespace

Test(udpd_router, client_and_service_hold_the_two_ends_and_nobody_else_does) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  Offer offer{far, "pong"};
  auto door = near.door();
  auto answer = door.call("connect", ask("pong", "pong " + udp(far, "/pong")));
  const auto client = answer.take_fd();
  cr_assert(answer.result()["path"].string_or("") == "direct");
  const auto [service, labels] = offer.accept();
  cr_assert(labels.at("scheme") == "udp" && labels.at("service") == "pong");
  cr_assert_eq(labels.at("peer.port"), std::to_string(port_of(client.borrow())));
  expect_passed(client.borrow(), service.borrow(), "to the service");
  expect_passed(service.borrow(), client.borrow(), "to the client");
  for (const auto pid : {near.helper("udpd"), far.helper("udpd")})
    for (const int end : {client.borrow(), service.borrow()})
      cr_assert(eventually([&] { return !holds_socket(pid, inode_of(end)); }));
}

Test(udpd_router, a_service_on_an_unguarded_seqpacket_socket_is_relayed_to) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  const auto listener = listen_unix(far / "pong", SOCK_SEQPACKET);
  auto door = near.door();
  auto answer = door.call("connect", ask("pong", "pong " + udp(far, "/pong")));
  const auto client = answer.take_fd();
  const auto service = accept_from(listener);
  expect_passed(client.borrow(), service.borrow(), "one");
  expect_passed(client.borrow(), service.borrow(), "two");
  expect_passed(service.borrow(), client.borrow(), "three");
}

Test(udpd_router, a_service_on_a_bare_datagram_socket_is_refused_since_nobody_could_be_told_apart) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  const ipc::Fd service{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const auto path = far / "pong";
  cr_assert_lt(path.size(), sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  cr_assert_eq(::bind(service.borrow(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  auto door = near.door();
  const auto answer = door.call("connect", ask("pong", "pong " + udp(far, "/pong")));
  cr_assert(answer.word() == "UNREACHABLE", "%s", answer.text.c_str());
  cr_assert(answer.message->failure.far);
  cr_assert(is_empty(service.borrow()));
}

Test(udpd_router, what_the_far_rules_deny_is_said_in_the_hop) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--deny", "in", "*", "*"}}, near;
  auto door = near.door();
  const auto answer = door.call("connect", ask("pong", "pong " + udp(far, "/pong")));
  cr_assert(answer.word() == "DENIED");
  cr_assert(answer.message->failure.far);
}

Test(udpd_router, a_peer_that_hops_and_hops_and_never_begins_takes_no_place_from_others) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"},
                 "[limits]\npending_requests = 2\n"};
  Offer offer{far, "pong"};
  const auto peer = udp_to(far.port());
  for (unsigned char hop = 1; hop <= 20; ++hop) {
    greet(peer.borrow(), "pong", hop);
    const auto answer = receive_hop(peer.borrow());
    cr_assert(answer.word.frame == ipc::hop_ok(), "hop %d: %s", hop, answer.bytes.c_str());
  }
}

Test(udpd_router, a_raw_peers_first_datagrams_come_with_its_socket) {
  const Host host{{"--allow", "in", "dns", "udp:127.0.0.0/8"},
                  "[[listen]]\nuri = \"udp://127.0.0.1:0\"\nservice = \"dns\"\n"};
  Offer offer{host, "dns"};
  const auto peer = udp_to(host.port());
  send_datagram(peer.borrow(), "first");
  auto datagram = offer.wire().receive();
  cr_assert(datagram.message && datagram.message->method == "accepted");
  const std::vector<std::string> first{"Zmlyc3Q="};
  cr_assert(datagram.message->params["first"].strings() == first);
  const auto service = datagram.take_fd();
  expect_passed(service.borrow(), peer.borrow(), "answer");
}

Test(udpd_router, plumb_connects_and_serves_one_read_one_datagram) {
  const Host far{{"--listen", "udp://127.0.0.1:0", "--allow", "in", "pong", "udp:127.0.0.1"}}, near;
  // head reads once, a datagram, and ends.
  const Process serve{{binary("plumb"), "serve", "pong", "--rundir", far.rundir(), "--", "head", "-c", "5"}};
  cr_assert(eventually([&] {
    const auto listed = run({.args = {binary("plumb"), "ls", "--rundir", far.rundir()}});
    return listed.output.find("pong") != std::string::npos;
  }));
  for (const std::string word : {"ping\n", "pong\n"}) {
    auto input = must(ipc::socket_pair(SOCK_STREAM));
    Process client{{.args = {binary("plumb"), "connect", udp(far, "/pong"), "--rundir", near.rundir()},
                    .input = input.second.borrow()}};
    input.second = {};
    send_all(input.first.borrow(), word);
    client.wait_for_output(word);
    input.first = {};
    cr_assert_eq(client.wait(), 0, "%s", client.error().c_str());
    cr_assert_eq(client.output(), word);
  }
}

Test(udpd_router, limits_of_the_configuration_hold_and_a_reload_changes_them_on_the_same_port) {
  const auto port = std::to_string(port_of(udp_socket().borrow()));
  const auto config = [&](int direct) {
    return "rules = [\"allow in dns udp:127.0.0.0/8\"]\n[[listen]]\nuri = \"udp://127.0.0.1:" + port +
           "\"\nservice = \"dns\"\ndirect_flows = " + std::to_string(direct) + "\n";
  };
  const Host host{{}, config(0)};
  Offer offer{host, "dns"};
  const auto path_of_next = [&](const ipc::Fd& peer) {
    send_datagram(peer.borrow(), "x");
    auto datagram = offer.wire().receive();
    cr_assert(datagram.message && datagram.message->method == "accepted", "%s", datagram.text.c_str());
    int domain = 0;
    socklen_t size = sizeof domain;
    const auto socket = datagram.take_fd();
    ::getsockopt(socket.borrow(), SOL_SOCKET, SO_DOMAIN, &domain, &size);
    return domain == AF_UNIX ? "relay" : "direct";
  };
  cr_assert_str_eq(path_of_next(udp_to(host.port())), "relay");
  host.write_config(config(10));
  auto door = host.door();
  cr_assert(door.call("reload", "{}").word().empty());
  cr_assert_eq(std::to_string(host.port()), port);
  cr_assert_str_eq(path_of_next(udp_to(host.port())), "direct");
}

Test(udpd_router, broadcast_and_multicast_need_a_rule_that_names_the_address) {
  for (const std::string address : {"255.255.255.255", "224.0.0.251"}) {
    const Host plain{{"--allow", "out", "mdns", "udp"}};
    auto door = plain.door();
    cr_assert(door.call("connect", ask("mdns", "mdns udp://" + address + ":5353")).word() == "DENIED");
    const Host allowed{{"--allow", "out", "mdns", "udp:" + address}};
    auto other = allowed.door();
    auto answer = other.call("connect", ask("mdns", "mdns udp://" + address + ":5353"));
    // A machine without a route there says so; the rule did not keep us.
    cr_assert(answer.word().empty() || answer.word() == "UNREACHABLE", "%s", answer.text.c_str());
  }
}

Test(udpd_router, the_broadcast_address_of_a_network_is_denied_in_a_sentence) {
  const Host host{{"--allow", "out", "mdns", "udp:127.255.255.255"}};
  auto door = host.door();
  const auto answer = door.call("connect", ask("mdns", "mdns udp://127.255.255.255:5353"));
  cr_assert(answer.word() == "DENIED");
  cr_assert(answer.text.find("the broadcast address of a network") != std::string::npos, "%s",
            answer.text.c_str());
}

Test(udpd_router, dig_asks_a_real_name_server_by_its_service_name) {
  if (!installed("dnsmasq") || !installed("dig")) cr_skip_test("dnsmasq or dig is not installed");
  const auto server = name_server();
  const Host host{{"--allow", "in", "dns", "udp:127.0.0.1"},
                  "[routes]\nnames = \"udp://127.0.0.1:" + std::to_string(server.port) +
                      "\"\n[[listen]]\nuri = \"udp://127.0.0.1:0\"\nservice = \"dns\"\n"};
  // The service dns passes each question on to whoever is reached by the name names.
  Offer offer{host, "dns"};
  Process dig{{"dig", "@127.0.0.1", "-p", std::to_string(host.port()), "+short", "+tries=1", "+time=60",
               "pong.test"}};
  auto question = offer.wire().receive(a_minute);
  const auto asker = question.take_fd();
  const auto first = question.message->params["first"].strings();
  auto door = host.door();
  auto answer = door.call("connect", ask("names"));
  const auto names = answer.take_fd();
  send_datagram(names.borrow(), *ipc::base64_decode(first.at(0)));
  send_datagram(asker.borrow(), receive_datagram(names.borrow()).value_or(""));
  cr_assert_eq(dig.wait(a_minute), 0);
  cr_assert_eq(dig.output(), "192.0.2.7\n", "%s", dig.output().c_str());
}
