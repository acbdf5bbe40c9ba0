// Connections of other hosts: where redirects lead them, what transit may pass on, and what strangers are
// told.
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "ipc/hop.hh"
#include "tests/e2e/host.hh"
#include "tests/e2e/tls_kit.hh"

using kit::ask;
using kit::Host;

namespace {
std::string listener(std::string_view more = {}) {
  return "[[listen]]\nuri = \"tcp://127.0.0.1:0\"\n" + std::string(more);
}

/// What a dial to `service` at `far` came to, asked through `near`.
kit::Wire::Datagram dial(const Host& near, const Host& far, const std::string& service) {
  auto door = near.door();
  return door.call("connect", ask(service, service + " " + far.uri(service)));
}
}  // namespace

Test(inbound, goes_where_a_redirect_to_a_unix_path_leads_and_not_to_the_old_service) {
  const kit::TempDir dir;
  const auto next = kit::listen_unix(dir / "next.sock");
  const Host far{{"--allow", "in", "*", "tcp:127.0.0.1"},
                 "[redirects]\nauthd = \"unix://" + (dir / "next.sock") + "\"\n" + listener()};
  const Host near;
  kit::Offer old{far, "authd"};
  auto answer = dial(near, far, "authd");
  const auto client = answer.take_fd();
  const auto service = kit::accept_from(next);
  kit::expect_joined(client.borrow(), service.borrow());
}

Test(inbound, transit_passes_on_what_a_redirect_sends_to_another_host) {
  const Host last{{"--listen", "tcp://127.0.0.1:0", "--allow", "in", "x", "tcp:127.0.0.1"}};
  kit::Offer offer{last, "x"};
  const auto redirect = "[redirects]\nel = \"" + last.uri("x") + "\"\n";
  const std::vector<std::string> rules{"--allow", "in",  "el", "tcp:127.0.0.1",
                                       "--allow", "out", "x",  "tcp:127.0.0.1"};
  const Host near, middle{rules, redirect + listener("transit = true\n")},
      closed{rules, redirect + listener()};
  auto answer = dial(near, middle, "el");
  const auto client = answer.take_fd();
  kit::expect_joined(client.borrow(), offer.accept().first.borrow());
  cr_assert_eq(dial(near, closed, "el").word(), "UNKNOWN_SERVICE");
}

namespace {
/// A host that passes `el` on to a TLS server, which ends as it is told to.
struct Passage {
  kit::TempDir dir;
  kit::Authority ca{dir};
  tlsd::SslCtx context = kit::server_context(ca.issue("server", {.names = {"IP:127.0.0.1"}}));
  kit::TcpServer server;
  Host middle;
  Host near{};

  explicit Passage(const std::string& listen, std::function<void(kit::TlsEnd&)> serve)
      : server{kit::serve_tls(context.get(),
                              [serve = std::move(serve)](kit::TlsEnd& end) {
                                while (end.receive_exactly(1) != "}") continue;  // the hop's frame
                                end.send(ipc::hop_ok());
                                serve(end);
                              })},
        middle{{"--allow", "in", "el", "*", "--allow", "out", "x", "tls:127.0.0.1"},
               "[routes]\nel = { target = \"tls://127.0.0.1:" + std::to_string(server.port()) +
                   "/x\", profile = \"p\" }\n[tls.p]\nca = \"" + ca.certificate() + "\"\n" + listen} {}
  ipc::Fd dial() {
    auto answer = ::dial(near, middle, "el");
    cr_assert_eq(answer.word(), "", "%s", answer.text.c_str());
    return answer.take_fd();
  }
};
}  // namespace

Test(inbound, transit_passes_a_cut_on_as_a_cut_and_an_end_as_an_end) {
  for (const bool in_order : {true, false}) {
    Passage passage{listener("transit = true\n"), [&](kit::TlsEnd& end) {
                      end.send("said");
                      end.receive_exactly(1);
                      if (in_order) end.close_notify();
                    }};
    const auto client = passage.dial();
    cr_assert_eq(kit::receive_exactly(client.borrow(), 4), "said");
    kit::send_all(client.borrow(), "x");
    char byte = 0;
    const auto count = ::recv(client.borrow(), &byte, 1, 0);
    cr_assert_eq(count, in_order ? 0 : -1, "%s", in_order ? "in order" : "cut");
  }
}

Test(inbound, transit_of_datagrams_adds_nothing_to_them) {
  Passage passage{"[[listen]]\nuri = \"udp://127.0.0.1:0\"\ntransit = true\n", [&](kit::TlsEnd& end) {
                    end.receive_exactly(2);
                    end.send("said");
                    end.receive_all();
                  }};
  auto door = passage.near.door();
  auto answer =
      door.call("connect", ask("el", "el udp://127.0.0.1:" + std::to_string(passage.middle.port()) + "/el"));
  const auto client = answer.take_fd();
  kit::send_all(client.borrow(), "go");
  std::array<char, 64> room{};
  cr_assert(kit::is_readable(client.borrow()));
  const auto size = ::recv(client.borrow(), room.data(), room.size(), 0);
  cr_assert_eq(std::string(room.data(), static_cast<std::size_t>(size)), "said");
}

Test(inbound, transit_tells_the_other_host_of_a_client_that_was_cut) {
  for (const bool in_order : {true, false}) {
    std::string said;
    bool clean = false;
    std::atomic<bool> is_through = false;
    Passage passage{listener("transit = true\n"), [&](kit::TlsEnd& end) {
                      end.send("go");
                      said = end.receive_all(&clean);
                      is_through = true;
                    }};
    auto client = passage.dial();
    cr_assert_eq(kit::receive_exactly(client.borrow(), 2), "go");
    kit::send_all(client.borrow(), "said");
    const linger at_once{.l_onoff = in_order ? 0 : 1, .l_linger = 0};
    ::setsockopt(client.borrow(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client = ipc::Fd{};
    cr_assert(kit::eventually([&] { return is_through.load(); }));
    cr_assert_eq(clean, in_order);
    if (in_order) cr_assert_eq(said, "said");
  }
}

Test(inbound, transit_leads_to_other_hosts_only_and_never_past_the_rules_of_a_service_here) {
  const Host far{
      {"--deny", "in", "authd", "*", "--allow", "in", "*", "tcp:127.0.0.1", "--allow", "local", "*", "*"},
      "[routes]\npublic = \"authd\"\n" + listener("transit = true\n")};
  const Host near;
  kit::Offer authd{far, "authd"};
  cr_assert_eq(dial(near, far, "authd").word(), "DENIED");
  cr_assert_eq(dial(near, far, "public").word(), "UNKNOWN_SERVICE");
}

Test(inbound, that_fails_before_a_rule_is_asked_is_an_event_with_its_peer_and_its_reason) {
  const kit::TempDir dir;
  const auto server = kit::Authority{dir}.issue("server");
  const Host far{{},
                 "[[listen]]\nuri = \"tls://127.0.0.1:0\"\nprofile = \"a\"\n[tls.a]\ncertificate = \"" +
                     server.certificate + "\"\nprivate_key = \"" + server.key + "\"\n"};
  auto door = far.door();
  door.call("events", "{}");
  const auto stranger = kit::connect_tcp(far.port());
  kit::send_all(stranger.borrow(), "GET / HTTP/1.0\r\n\r\n");
  const auto event = door.receive();
  const auto decision = event.message->params["decision"];
  cr_assert_eq(decision["direction"].string_or(""), "in", "%s", event.text.c_str());
  cr_assert_eq(decision["verdict"].string_or(""), "none", "%s", event.text.c_str());
  cr_assert_eq(decision["code"].string_or(""), "UNREACHABLE", "%s", event.text.c_str());
  cr_assert(decision["peer"].string_or("").starts_with("tls:127.0.0.1:"), "%s", event.text.c_str());
  cr_assert(decision["message"].string_or("").ends_with("does not speak TLS"), "%s", event.text.c_str());
}

Test(inbound, strangers_learn_no_name_that_they_did_not_say) {
  const Host far{{"--allow", "in", "pong", "tcp:127.0.0.1"},
                 "[redirects]\nhidden = \"tcp://127.0.0.1:1/x\"\nalias = \"secretsvc\"\n" + listener()};
  const Host near;
  for (const std::string name : {"nope", "hidden", "alias"}) {
    const auto answer = dial(near, far, name);
    cr_assert_eq(answer.word(), "DENIED", "%s", answer.text.c_str());
    cr_assert_neq(answer.text.find("in " + name + " is denied"), std::string::npos, "%s",
                  answer.text.c_str());
  }
}

Test(inbound, strangers_learn_nothing_of_what_transit_comes_to) {
  const Host far{
      {"--allow", "in", "*", "tcp:127.0.0.1", "--deny", "out", "inner", "*", "--allow", "out", "*", "*"},
      "[redirects]\nel = \"tcp://10.11.12.13:9000/inner\"\nel2 = \"tcp://127.0.0.1:1/other\"\n"
      "alias = \"secretsvc\"\n" +
          listener("transit = true\n")};
  const Host near;
  const auto expect = [&](const std::string& name, std::string_view word, const std::string& sentence) {
    const auto answer = dial(near, far, name);
    cr_assert_eq(answer.word(), word, "%s", answer.text.c_str());
    cr_assert_neq(answer.text.find("says: " + sentence + "\""), std::string::npos, "%s", answer.text.c_str());
  };
  expect("el", "DENIED", "in el is denied");
  expect("el2", "UNREACHABLE", "el2 cannot be reached here now");
  expect("alias", "UNKNOWN_SERVICE", "alias cannot be reached here now");
}

Test(inbound, a_stranger_that_may_not_have_what_is_behind_a_redirect_does_not_learn_its_name) {
  const Host far{
      {"--allow", "in", "*", "tcp:127.0.0.1", "--deny", "serve", "inner", "*"},
      "[redirects]\nouter = \"inner\"\nshop = \"stock\"\n[limits]\nconnections = 1\n" + listener()};
  const Host near;
  const auto denied = kit::listen_unix(far / "inner"), without_room = kit::listen_unix(far / "stock");
  auto first = dial(near, far, "shop");
  const auto holds_the_place = first.take_fd();
  cr_assert(holds_the_place);
  for (const auto& [asked, word, opened] :
       {std::tuple{"outer", "DENIED", "inner"}, std::tuple{"shop", "BUSY", "stock"}}) {
    const auto answer = dial(near, far, asked);
    cr_assert_eq(answer.word(), word, "%s", answer.text.c_str());
    cr_assert_eq(answer.text.find(opened), std::string::npos, "%s", answer.text.c_str());
  }
  auto client = far.door();
  client.call("events", R"({"follow":false})");
  std::string kinds;
  for (int i = 0; i < 3; ++i) {
    const auto event = client.receive();
    for (const auto step : event.message->params["decision"]["steps"])
      kinds += std::string(step["kind"].string_or("")) + " ";
  }
  cr_assert_neq(kinds.find("owner"), std::string::npos, "whose offer was denied is told: %s", kinds.c_str());
}

Test(inbound, a_full_queue_of_an_unguarded_service_is_waited_for_and_its_path_is_not_told) {
  const Host far{{"--allow", "in", "*", "tcp:127.0.0.1"}, "[limits]\nhop_timeout = \"1s\"\n" + listener()};
  const Host near;
  const auto full = kit::listen_unix(far / "full");
  cr_assert_eq(::listen(full.borrow(), 0), 0);
  const auto first = kit::connect_unix(far / "full");
  auto door = near.door();
  door.send(ipc::rpc::request("7", "connect", ask("full", "full " + far.uri("full"))));
  cr_assert(!kit::is_readable(door.borrow(), kit::Milliseconds{100}), "it waits");
  const auto taken = kit::accept_from(full);
  auto answer = door.receive();
  cr_assert(answer.take_fd());
  cr_assert(kit::accept_from(full));
  const auto second = kit::connect_unix(far / "full");
  const auto refused = dial(near, far, "full");
  cr_assert_neq(refused.word(), "", "the queue stays full");
  cr_assert_eq(refused.text.find(far.rundir()), std::string::npos, "%s", refused.text.c_str());
}
