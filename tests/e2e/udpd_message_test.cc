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
