// A helper in Python for a scheme of its own (tests/helpers/loopd.py), written from docs/protocol.md alone,
// in the real router: against itself, and against tcpd at the other end.
#include <criterion/criterion.h>
#include <signal.h>

#include "tests/e2e/host.hh"

using kit::ask;
using kit::Host;
using kit::Offer;

namespace {
std::string loopd(std::string_view more = {}) {
  if (!kit::installed("python3")) cr_skip_test("needs python3");
  return "[helpers.loop]\nschemes = [\"loop\"]\nhop = true\nexec = [\"python3\", \"" + kit::source_dir() +
         "/tests/helpers/loopd.py\"]\n" + std::string(more);
}

std::string listen(const std::string& uri, std::string_view more = {}) {
  return "[[listen]]\nuri = \"" + uri + "\"\n" + std::string(more);
}

std::string rules(std::string_view text) { return "rules = [" + std::string(text) + "]\n"; }

/// A host with a loop listener that lets `pong` in.
Host loop_host(std::string_view more = {}) {
  return Host{{},
              rules(R"("allow in pong loop:127.0.0.1", "allow in web loop:127.0.0.1")") +
                  loopd(listen("loop://127.0.0.1:0", more))};
}

std::string at(const std::string& scheme, std::uint16_t port, const std::string& service) {
  return scheme + "://localhost:" + std::to_string(port) + (service.empty() ? "" : "/" + service);
}

/// Asks `near` for pong at `uri` and lets `offer` take it; the joined ends.
void expect_connection(Host& near, Offer& offer, const std::string& uri, std::string_view scheme) {
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + uri));
  cr_assert_eq(answer.word(), "", "%s", answer.text.c_str());
  cr_assert_eq(answer.result()["path"].string_or(""), "direct");
  cr_assert_eq(answer.result()["labels"]["scheme"].string_or(""), uri.substr(0, uri.find(':')));
  const auto fd = answer.take_fd();
  const auto [socket, labels] = offer.accept();
  cr_assert_eq(labels.at("scheme"), scheme);
  cr_assert_eq(labels.at("peer.address"), "127.0.0.1");
  kit::expect_joined(fd.borrow(), socket.borrow());
  for (const pid_t pid : kit::descendants(near.router().pid()))
    cr_assert(kit::eventually([&] { return !kit::holds_socket(pid, kit::inode_of(fd.borrow())); }));
}
}  // namespace

Test(python_helper, dials_what_tcpd_listens_on) {
  Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "pong", "tcp:127.0.0.1"}};
  Host near{{}, loopd()};
  Offer offer{far, "pong"};
  expect_connection(near, offer, at("loop", far.port(), "pong"), "tcp");
}

Test(python_helper, listens_to_what_tcpd_dials) {
  auto far = loop_host();
  Host near;
  Offer offer{far, "pong"};
  expect_connection(near, offer, at("tcp", far.port(), "pong"), "loop");
}

Test(python_helper, speaks_to_itself) {
  auto host = loop_host();
  Offer offer{host, "pong"};
  expect_connection(host, offer, at("loop", host.port(), "pong"), "loop");
}

Test(python_helper, brings_the_far_sides_refusal_to_the_client) {
  auto far = loop_host();
  Host near{{}, loopd()};
  auto client = near.door();
  for (const auto* scheme : {"tcp", "loop"}) {
    const auto denied = client.call("connect", ask("x", "x " + at(scheme, far.port(), "authd")));
    cr_assert_eq(denied.word(), "DENIED", "%s", denied.text.c_str());
    cr_assert(denied.message->failure.far);
    const auto absent = client.call("connect", ask("x", "x " + at(scheme, far.port(), "pong")));
    cr_assert_eq(absent.word(), "UNKNOWN_SERVICE", "%s", absent.text.c_str());
    cr_assert_neq(absent.message->failure.text.find("localhost says: pong is not offered here"),
                  std::string::npos, "%s", absent.text.c_str());
  }
}

Test(python_helper, gets_only_what_the_rules_let_through) {
  Host far{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "*", "tcp:127.0.0.1"}};
  Host near{
      {},
      rules(R"("deny out authd *", "deny out web loop:127.0.0.0/8", "deny out web loop:[::1]")") + loopd()};
  Offer offer{far, "authd"};
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + at("loop", far.port(), "authd")));
  cr_assert_eq(answer.word(), "DENIED", "authd cannot be called by the name of pong");
  cr_assert_eq(answer.message->failure.rule, "deny out authd *");
  answer = client.call("connect", ask("web", "web " + at("loop", far.port(), "")));
  cr_assert_eq(answer.word(), "DENIED", "%s", answer.text.c_str());
  answer = client.call("connect", ask("pong", "pong " + at("loop", far.port(), "a/b")));
  cr_assert_eq(answer.word(), "BAD_REQUEST", "%s", answer.text.c_str());
}

Test(python_helper, judges_the_port_that_was_listened_on) {
  for (const auto& [scheme, helper] :
       {std::pair{std::string("loop"), loopd()}, std::pair{std::string("tcp"), std::string{}}}) {
    const auto open = kit::free_port(), shut = kit::free_port();
    const auto uri = scheme + "://127.0.0.1:";
    Host far{{},
             rules("\"allow in pong " + scheme + ":127.0.0.1:" + std::to_string(open) + "\"") + helper +
                 listen(uri + std::to_string(open)) + listen(uri + std::to_string(shut))};
    Host near;
    Offer offer{far, "pong"};
    expect_connection(near, offer, at("tcp", open, "pong"), scheme);
    auto client = near.door();
    cr_assert_eq(client.call("connect", ask("pong", "pong " + at("tcp", shut, "pong"))).word(), "DENIED");
  }
}

Test(python_helper, without_a_service_in_the_uri_connects_to_any_server) {
  kit::TcpServer server{kit::pong};
  Host near{{}, loopd()};
  auto client = near.door();
  auto answer = client.call("connect", ask("x", "x " + at("loop", server.port(), "")));
  const auto fd = answer.take_fd();
  kit::send_all(fd.borrow(), "ping\n");
  cr_assert_eq(kit::receive_exactly(fd.borrow(), 5), "pong\n");
  answer = client.call("connect", ask("x", "x loop://192.0.2.1:9"));
  cr_assert_eq(answer.word(), "DENIED");
  cr_assert_neq(answer.text.find("loop does not leave it"), std::string::npos, "%s", answer.text.c_str());
}

Test(python_helper, passes_raw_connections_to_their_service) {
  auto far = loop_host("service = \"web\"\n");
  Offer offer{far, "web"};
  const auto client = kit::connect_tcp(far.port());
  const auto [socket, labels] = offer.accept();
  cr_assert_eq(labels.at("service"), "web");
  kit::expect_joined(client.borrow(), socket.borrow());
}

Test(python_helper, relays_to_the_socket_of_a_program_that_knows_no_router_and_outlives_both) {
  auto far = loop_host();
  const auto service = kit::listen_unix(far / "pong");
  Host near;
  auto client = near.door();
  auto answer = client.call("connect", ask("pong", "pong " + at("tcp", far.port(), "pong")));
  const auto fd = answer.take_fd();
  auto socket = kit::accept_from(service);
  kit::expect_joined(fd.borrow(), socket.borrow());
  const auto helper = far.helper("loop");
  cr_assert_eq(far.router().stop(), 0);
  kit::expect_joined(fd.borrow(), socket.borrow());
  socket = {};
  cr_assert_eq(kit::receive_all(fd.borrow()), "");
  answer = {};
  ::shutdown(fd.borrow(), SHUT_RDWR);
  cr_assert(kit::eventually([&] { return ::kill(helper, 0) != 0; }),
            "a helper with nothing left to do exits");
}

Test(python_helper, that_is_killed_comes_back_and_listens_on_the_same_port) {
  auto far = loop_host();
  Offer offer{far, "pong"};
  Host near;
  const auto port = far.port();
  cr_assert_eq(::kill(far.helper("loop"), SIGKILL), 0);
  cr_assert(kit::eventually([&] {
    auto client = near.door();
    return client.call("connect", ask("pong", "pong " + at("tcp", port, "pong"))).word().empty();
  }));
  cr_assert_eq(far.port(), port);
}

Test(python_helper, whose_entry_changes_is_replaced_and_its_listeners_with_it) {
  const auto port = kit::free_port();
  const auto config = [&](std::string_view environment) {
    return rules(R"("allow in pong loop:127.0.0.1")") + loopd(environment) +
           listen("loop://127.0.0.1:" + std::to_string(port));
  };
  Host host{{}, config("")};
  Offer offer{host, "pong"};
  const auto old = host.helper("loop");
  host.write_config(config("environment = { LANG = \"C\" }\n"));
  auto client = host.door();
  const auto reloaded = client.call("reload", "{}");
  cr_assert_eq(reloaded.word(), "", "%s", reloaded.text.c_str());
  cr_assert_neq(host.helper("loop"), old);
  expect_connection(host, offer, at("loop", port, "pong"), "loop");
  cr_assert(kit::eventually([&] { return ::kill(old, 0) != 0; }));
}

Test(python_helper, whose_new_entry_is_refused_keeps_listening) {
  const auto port = kit::free_port();
  const auto config = [&](const std::string& environment, std::uint16_t second) {
    return rules(R"("allow in pong loop:127.0.0.1")") + loopd(environment) +
           listen("loop://127.0.0.1:" + std::to_string(port)) +
           (second != 0 ? listen("loop://127.0.0.1:" + std::to_string(second)) : "");
  };
  Host host{{}, config("", 0)};
  Offer offer{host, "pong"};
  const auto occupied = kit::listen_tcp();
  host.write_config(config("environment = { LANG = \"C\" }\n", kit::port_of(occupied.borrow())));
  auto client = host.door();
  const auto refused = client.call("reload", "{}");
  cr_assert(refused.text.find("Address already in use") != std::string::npos, "%s%s", refused.text.c_str(),
            host.router().error().c_str());
  cr_assert(kit::eventually([&] {
    return client.call("connect", ask("pong", "pong " + at("loop", port, "pong"))).word().empty();
  }));
}
