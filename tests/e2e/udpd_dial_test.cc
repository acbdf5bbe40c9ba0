// udpd's dials, seen from the router and from the link.
#include <criterion/criterion.h>
#include <fcntl.h>

#include "ipc/address.hh"
#include "tests/e2e/udp_kit.hh"

using namespace kit;
using udpd::Kind;

namespace {
constexpr const char* with_hop =
    R"("service":"pong","hops":1,"judge":false,"settings":{"hop_timeout_ms":9000})";

std::string udp(std::uint16_t port, const char* host = "127.0.0.1", const std::string& path = "") {
  return "udp://" + std::string(host) + ":" + std::to_string(port) + path;
}

/// From now on the kernel answers with "port unreachable", and nobody else can take the port.
void close_port(const ipc::Fd& socket) {
  constexpr std::uint16_t nobody = 9;
  sockaddr_storage storage;
  const auto size = ipc::to_sockaddr(*ipc::parse_address("127.0.0.1"), nobody, storage);
  cr_assert_eq(::connect(socket.borrow(), reinterpret_cast<sockaddr*>(&storage), size), 0);
}

/// The next datagram, and who sent it.
struct Heard {
  std::string bytes = std::string(2000, '\0');
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  explicit Heard(const ipc::Fd& socket) {
    cr_assert(is_readable(socket.borrow()));
    const auto got = ::recvfrom(socket.borrow(), bytes.data(), bytes.size(), 0, peer(), &size);
    cr_assert_geq(got, 0);
    bytes.resize(static_cast<std::size_t>(got));
  }
  sockaddr* peer() { return reinterpret_cast<sockaddr*>(&from); }
  void answer(const ipc::Fd& socket, std::string_view text) {
    ::sendto(socket.borrow(), text.data(), text.size(), 0, peer(), size);
  }
};

std::string text_of(const Wire::Datagram& answer) { return answer.message->failure.text; }

void expect_joined_datagrams(int client, int service) {
  send_datagram(client, "to the service");
  cr_assert(receive_datagram(service) == "to the service");
  send_datagram(client, "");
  cr_assert(receive_datagram(service) == "");
  send_datagram(service, "to the client");
  cr_assert(receive_datagram(client) == "to the client");
  cr_assert(is_empty(client) && is_empty(service));
}

/// Two hosts with a link in between; a dial through it must come to be.
void dial_across(Link::Policy policy, bool replay = false, const char* address = "127.0.0.1") {
  ScriptedRouter far{"udpd"}, near{"udpd"};
  const std::string host = std::string_view{address} == "::1" ? "[::1]" : address;
  const Link link{far.listen_port("udp://" + host + ":0"), std::move(policy), address};
  near.send_dial(7, udp(link.port(), host.c_str(), "/pong"), with_hop);
  admit(far);
  auto answer = near.wire().receive();
  const auto client = answer.take_fd();
  const auto service = delivered(far);
  cr_assert(service.path == "direct" && service.first.empty());
  if (replay) const_cast<Link&>(link).replay();
  expect_joined_datagrams(client.borrow(), service.socket.borrow());
  cr_assert(near.is_back_to_rest());
}
}  // namespace

Test(udpd_dial, raw_is_a_connected_socket_at_once) {
  for (const char* address : {"127.0.0.1", "::1"}) {
    ScriptedRouter router{"udpd"};
    const auto server = udp_socket(address);
    const std::string host = std::string_view{address} == "::1" ? "[::1]" : address;
    auto answer = router.dial(udp(port_of(server.borrow()), host.c_str()));
    const auto socket = answer.take_fd();
    cr_assert(answer.result()["path"].string_or("") == "direct");
    cr_assert(answer.result()["labels"].labels().at("peer.address") == address);
    cr_assert(answer.result()["labels"].labels().at("scheme") == "udp");
    cr_assert_eq(::fcntl(socket.borrow(), F_GETFL) & O_NONBLOCK, 0);
    send_datagram(socket.borrow(), "hello");
    cr_assert(receive_datagram(server.borrow()) == "hello");
    cr_assert(router.is_back_to_rest());
  }
}

Test(udpd_dial, icmp_errors_reach_the_client_of_a_raw_dial) {
  ScriptedRouter router{"udpd"};
  const auto server = udp_socket();
  close_port(server);
  auto answer = router.dial(udp(port_of(server.borrow())));
  const auto socket = answer.take_fd();
  send_datagram(socket.borrow(), "anybody?");
  cr_assert(is_readable(socket.borrow()));
  char byte = 0;
  cr_assert_eq(::recv(socket.borrow(), &byte, 1, 0), -1);
  cr_assert_eq(errno, ECONNREFUSED);
}

Test(udpd_dial, a_name_is_judged_before_anything_is_connected) {
  ScriptedRouter router{"udpd"};
  router.send_dial(7, "udp://localhost:9", R"("judge":true)");
  auto question = router.expect("judge");
  const std::vector<std::string> both{"127.0.0.1", "::1"};
  cr_assert(question.message->params["addresses"].strings() == both);
  router.answer(question, R"({"allowed":["::1"]})");
  auto answer = router.wire().receive();
  cr_assert(answer.result()["labels"].labels().at("peer.address") == "::1");
  router.send_dial(8, "udp://localhost:9", R"("judge":true)");
  router.wire().refuse(router.expect("judge"), {.word = ipc::Word::denied, .text = "no"});
  cr_assert(router.wire().receive().word() == "DENIED");
}

Test(udpd_dial, the_hop_joins_client_and_service_in_both_families) {
  for (const char* host : {"127.0.0.1", "[::1]", "localhost"}) {
    ScriptedRouter far{"udpd"}, near{"udpd"};
    const auto port = far.listen_port("udp://" + std::string(host) + ":0");
    near.send_dial(7, udp(port, host, "/pong"), with_hop);
    const auto question = far.expect("accepted");
    const auto asked = question.message->params;
    cr_assert(asked["service"].string_or("") == "pong");
    cr_assert_eq(asked["hops"].integer_or(0), 1);
    cr_assert(asked["labels"].labels().at("scheme") == "udp");
    far.answer(question, R"({"token":"1","mode":"deliver"})");
    auto answer = near.wire().receive();
    const auto client = answer.take_fd();
    const auto service = delivered(far);
    cr_assert_eq(::fcntl(service.socket.borrow(), F_GETFL) & O_NONBLOCK, 0);
    cr_assert_eq(asked["labels"].labels().at("peer.port"), std::to_string(port_of(client.borrow())));
    expect_joined_datagrams(client.borrow(), service.socket.borrow());
    cr_assert(near.is_back_to_rest());
  }
}

Test(udpd_dial, any_one_hop_packet_may_be_lost_in_either_direction_and_family) {
  for (const char* address : {"127.0.0.1", "::1"})
    for (const auto& [lossy, packets] : {std::pair{Link::Way::there, 3}, std::pair{Link::Way::back, 2}})
      for (int lost = 0; lost < packets; ++lost)
        dial_across(
            [=](Link::Way way, int index, std::string_view) { return way == lossy && index == lost ? 0 : 1; },
            false, address);
}

Test(udpd_dial, a_link_that_doubles_and_reorders_leaves_nothing_of_the_hop_behind) {
  const auto is_hop = [](std::string_view bytes) { return udpd::has_magic(bytes); };
  dial_across([=](Link::Way, int, std::string_view bytes) { return is_hop(bytes) ? 2 : 1; }, true);
  dial_across(
      [=](Link::Way, int index, std::string_view bytes) {
        return is_hop(bytes) && index % 3 == 0 ? -1 : is_hop(bytes) ? 2 : 1;
      },
      true);
}

Test(udpd_dial, a_link_that_loses_every_second_packet_is_good_enough) {
  dial_across([](Link::Way, int index, std::string_view bytes) {
    return udpd::has_magic(bytes) && index % 2 == 0 ? 0 : 1;
  });
}

Test(udpd_dial, a_refusal_keeps_its_word_and_sentence_though_its_first_copy_is_lost) {
  ScriptedRouter far{"udpd"}, near{"udpd"};
  const Link link{far.listen_port("udp://127.0.0.1:0"), [](Link::Way way, int index, std::string_view) {
                    return way == Link::Way::back && index == 1 ? 0 : 1;
                  }};
  near.send_dial(7, udp(link.port(), "127.0.0.1", "/pong"), with_hop);
  far.wire().refuse(far.expect("accepted"), {.word = ipc::Word::denied, .text = "not for you"});
  const auto answer = near.wire().receive();
  cr_assert(answer.word() == "DENIED");
  cr_assert(answer.message->failure.far);
  cr_assert(text_of(answer) == "127.0.0.1 says: not for you", "%s", text_of(answer).c_str());
  cr_assert(near.is_back_to_rest());
}

Test(udpd_dial, silence_is_a_timeout_and_nobody_is_unreachable_at_once) {
  ScriptedRouter router{"udpd"};
  const auto silent = udp_socket();
  const auto port = port_of(silent.borrow());
  constexpr const char* hurried =
      R"("service":"pong","hops":1,"judge":false,"settings":{"hop_timeout_ms":400})";
  cr_assert(router.dial(udp(port, "127.0.0.1", "/pong"), hurried).word() == "TIMEOUT");
  close_port(silent);
  const auto answer = router.dial(udp(port, "127.0.0.1", "/pong"), with_hop);
  cr_assert(answer.word() == "UNREACHABLE");
  cr_assert(text_of(answer).find("refused") != std::string::npos, "%s", text_of(answer).c_str());
  cr_assert(router.is_back_to_rest());
}

Test(udpd_dial, whoever_answers_something_else_is_no_router) {
  ScriptedRouter router{"udpd"};
  for (const bool echoes : {false, true}) {
    const auto server = udp_socket();
    router.send_dial(7, udp(port_of(server.borrow()), "127.0.0.1", "/pong"), with_hop);
    Heard hello{server};
    cr_assert_eq(hello.bytes.size(), udpd::shortest_hello);
    hello.answer(server, echoes ? hello.bytes : "HTTP/1.1 400");
    const auto answer = router.wire().receive();
    cr_assert(answer.word() == "UNREACHABLE");
    cr_assert(text_of(answer).find("no router") != std::string::npos, "%s", text_of(answer).c_str());
  }
}

Test(udpd_dial, icmp_in_the_middle_of_the_hop_ends_it) {
  ScriptedRouter router{"udpd"};
  const auto server = udp_socket();
  router.send_dial(7, udp(port_of(server.borrow()), "127.0.0.1", "/pong"), with_hop);
  for (bool with_cookie = false; !with_cookie;) {
    Heard hello{server};
    const auto word = udpd::decode(hello.bytes);
    cr_assert(word && word->kind == Kind::hello);
    with_cookie = word->has_cookie();
    hello.answer(server, udpd::encode({.kind = Kind::cookie, .nonce = word->nonce, .cookie = {7}}));
  }
  close_port(server);
  const auto answer = router.wire().receive();
  cr_assert(answer.word() == "UNREACHABLE");
  cr_assert(router.is_back_to_rest());
}

Test(udpd_dial, cancel_ends_a_hop_and_the_far_side_is_told) {
  ScriptedRouter far{"udpd"}, near{"udpd"};
  const auto port = far.listen_port("udp://127.0.0.1:0");
  near.send_dial(7, udp(port, "127.0.0.1", "/pong"), with_hop);
  const auto question = far.expect("accepted");
  near.notify("cancel", R"({"id":7})");
  cr_assert_not(near.wire().receive().word().empty());
  cr_assert(near.is_back_to_rest());
}
