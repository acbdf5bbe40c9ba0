// Who udpd's listeners take for a peer: not themselves, the same one at two addresses, neighbours on a link.
#include <criterion/criterion.h>
#include <net/if.h>
#include <sched.h>

#include <cstdlib>

#include "tests/e2e/udp_kit.hh"
#include "udpd/socket.hh"

using namespace kit;

namespace {
constexpr const char* raw = R"("service":"dns")";

udpd::Peer at(std::string_view address, std::uint16_t port, std::uint32_t scope = 0) {
  return {*ipc::parse_address(address), port, scope};
}

void send_to(int socket, const udpd::Peer& to, std::string_view bytes) {
  udpd::send(udpd::Outlet{.socket = socket, .to = to}, {&bytes, 1});
}

/// The label of the flow that the router is asked about next, which it admits.
std::string admitted(ScriptedRouter& router, std::string_view label) {
  const auto question = router.expect("accepted");
  router.answer(question, R"({"token":"1","mode":"deliver"})");
  return question.message->params["labels"].labels().at(std::string(label));
}

/// A machine of its own, with a neighbour: itself. False where that takes a privilege that we have not.
bool is_alone_on_a_link() {
  return ::unshare(CLONE_NEWNET) == 0 &&
         std::system("ip link set lo up && ip address add fe80::7/64 dev lo nodad") == 0;
}
}  // namespace

Test(udpd_peers, a_datagram_with_the_listeners_own_address_as_its_source_is_nobodys) {
  for (const char* listening : {"127.0.0.1", "0.0.0.0"}) {
    ScriptedRouter router{"udpd"};
    const auto port = router.listen_port("udp://" + std::string(listening) + ":0", raw);
    const bool any = std::string_view{listening} == "0.0.0.0";
    for (const char* source : {"127.0.0.1", "127.0.0.2"}) {
      if (!any && std::string_view{source} != listening) continue;
      // Beside the listener, and deaf: as if somebody had forged the source.
      const auto self = must(udpd::flow_socket(at(source, port), at("127.0.0.9", 1), false, {}));
      send_to(self.borrow(), at("127.0.0.1", port), "echo");
    }
    const auto peer = udp_to(port);
    send_datagram(peer.borrow(), "x");
    cr_assert_eq(admitted(router, "peer.port"), std::to_string(port_of(peer.borrow())));
    delivered(router);
  }
}

Test(udpd_peers, one_that_turns_to_another_address_of_the_listener_begins_a_flow_with_it) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://0.0.0.0:0", raw);
  const auto peer = udp_socket();
  send_to(peer.borrow(), at("127.0.0.1", port), "one");
  cr_assert_eq(admitted(router, "local.address"), "127.0.0.1");
  const auto first = delivered(router);
  send_to(peer.borrow(), at("127.0.0.2", port), "two");
  cr_assert_eq(admitted(router, "local.address"), "127.0.0.2");
  const auto second = delivered(router);
  cr_assert(second.first == std::vector<std::string>{"two"});
  send_to(peer.borrow(), at("127.0.0.1", port), "three");
  cr_assert(receive_datagram(first.socket.borrow()) == "three");
}

Test(udpd_peers, neighbours_with_link_local_addresses_are_answered_where_they_came_from) {
  if (!is_alone_on_a_link()) cr_skip("needs root and ip(8)");
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://[::]:0", raw);
  const auto hops = router.listen_port("udp://[::]:0", {}, 2);
  const auto link = ::if_nametoindex("lo");
  const auto peer = must(udpd::dial_socket(at("fe80::7", port, link), {}));
  send_datagram(peer.borrow(), "x");
  cr_assert_eq(admitted(router, "peer.address"), "fe80::7");
  const auto flow = delivered(router);
  send_datagram(flow.socket.borrow(), "answer");
  cr_assert(receive_datagram(peer.borrow()) == "answer");
  const auto dialler = must(udpd::dial_socket(at("fe80::7", hops, link), {}));
  greet(dialler.borrow(), "pong", 1);
  admit(router);
  cr_assert(receive_hop(dialler.borrow()).word.frame == ipc::hop_ok());
}

Test(udpd_peers, of_answers_that_leave_together_one_that_cannot_is_lost_alone) {
  const auto from = udp_socket(), first = udp_socket(), last = udp_socket();
  const auto letter = [](const udpd::Peer& to) { return udpd::Letter{.to = to, .from = {}, .bytes = "x"}; };
  const std::vector<udpd::Letter> letters{letter(at("127.0.0.1", port_of(first.borrow()))),
                                          letter(at("255.255.255.255", 9)),  // EACCES without SO_BROADCAST
                                          letter(at("127.0.0.1", port_of(last.borrow())))};
  udpd::send(from.borrow(), std::span{letters});
  cr_assert(receive_datagram(first.borrow()) == "x");
  cr_assert(receive_datagram(last.borrow()) == "x");
}
