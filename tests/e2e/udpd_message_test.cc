// libipc's messages over the sockets that udpd hands over: one frame, one datagram.
#include <criterion/criterion.h>

#include "ipc/message.hh"
#include "tests/e2e/udp_kit.hh"

using namespace kit;

Test(udpd_message, frames_travel_as_datagrams_and_the_limit_is_told) {
  ScriptedRouter far{"udpd"}, near{"udpd"};
  const auto port = far.listen_port("udp://127.0.0.1:0");
  near.send_dial(7, "udp://127.0.0.1:" + std::to_string(port) + "/pong",
                 R"("service":"pong","hops":1,"judge":false)");
  admit(far);
  ipc::MessageSocket client{near.wire().receive().take_fd()};
  ipc::MessageSocket service{delivered(far).socket};
  must(client.send({.user_type = 42, .payload = "hello"}));
  must(client.send({.user_type = 43, .payload = ""}));
  const auto first = must(service.receive());
  cr_assert(first && first->user_type == 42 && first->payload == "hello");
  const auto second = must(service.receive());
  cr_assert(second && second->user_type == 43 && second->payload.empty());
  const auto too_large = service.send({.payload = std::string(service.limit() + 1, 'x')});
  cr_assert(!too_large && too_large.error().word == ipc::Word::bad_request);
  cr_assert(too_large.error().text.find(std::to_string(service.limit())) != std::string::npos);
  must(service.send({.payload = std::string(service.limit(), 'x')}));
  const auto large = must(client.receive());
  cr_assert(large && large->payload.size() == service.limit());
}

Test(udpd_message, a_relayed_service_is_told_the_limit_of_its_clients_socket) {
  ScriptedRouter router{"udpd"};
  const auto port =
      router.listen_port("udp://127.0.0.1:0", R"("service":"pong","settings":{"direct_flows":0})");
  ipc::MessageSocket client{udp_to(port)};
  must(client.send({.payload = "hello"}));
  admit(router);
  ipc::MessageSocket service{delivered(router).socket};
  cr_assert(must(service.receive())->payload == "hello");
  cr_assert_leq(service.limit(), client.limit());
  const auto too_large = service.send({.payload = std::string(client.limit() + 1, 'x')});
  cr_assert(!too_large && too_large.error().word == ipc::Word::bad_request);
  const std::string larger(70'000, 'x');
  cr_assert(::send(service.borrow(), larger.data(), larger.size(), MSG_NOSIGNAL) < 0 && errno == EMSGSIZE);
  must(service.send({.payload = std::string(service.limit(), 'x')}));
  cr_assert_eq(must(client.receive())->payload.size(), service.limit());
}

Test(udpd_message, what_a_relay_cannot_send_is_logged_once_for_each_flow) {
  ScriptedRouter router{"udpd"};
  const auto port = router.listen_port("udp://[::1]:0", R"("service":"pong","settings":{"direct_flows":0})");
  const auto peer = udp_to(port, "::1");
  send_datagram(peer.borrow(), "hello");
  admit(router);
  const auto service = delivered(router).socket;
  // Legal, and with its headers more than the 65,536 bytes that the loopback carries.
  for (int i = 0; i < 3; ++i) send_datagram(service.borrow(), std::string(65'520, 'x'));
  send_datagram(service.borrow(), "small");
  cr_assert(receive_datagram(peer.borrow()) == "small");
  cr_assert(router.expect("log").text.find("larger than the path carries") != std::string::npos);
  cr_assert(router.logs().find("larger than the path carries") == std::string::npos, "%s",
            router.logs().c_str());
}
