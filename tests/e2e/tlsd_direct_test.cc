// `ktls = "direct"`: two hosts agree that sockets are handed over with the kernel's TLS on them. Where the
// kernel has none, the same connections are relayed; `make check-ktls` runs these in a machine that has.
#include <sys/socket.h>

#include <cerrno>
#include <thread>

#include "ipc/client.hh"
#include "ipc/ipc.h"
#include "ipc/message.hh"
#include "ipc/service.hh"
#include "ipc/tls_socket.hh"
#include "tests/e2e/host.hh"
#include "tests/e2e/tls_bench.hh"

using namespace kit;

namespace {
constexpr const char* suites[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                  "TLS_CHACHA20_POLY1305_SHA256"};
constexpr std::size_t bulk = 1UL << 20;

std::string pattern(std::uint32_t seed) {
  std::string bytes(bulk, '\0');
  for (auto& byte : bytes) byte = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
  return bytes;
}

/// Until the end in order; `error` is errno where that is not how it ended.
std::string read_all(int socket, int* error = nullptr) {
  std::string all;
  std::string part(65'536, '\0');
  ssize_t count = 0;
  while ((count = ::ipc_read(socket, part.data(), part.size())) > 0)
    all.append(part, 0, static_cast<std::size_t>(count));
  if (error != nullptr) *error = count < 0 ? errno : 0;
  return all;
}

/// Two hosts, each with a router and a profile of its own.
struct Pair {
  TempDir dir;
  Authority ca{dir};
  Issued issued = ca.issue("server");
  Host far;
  Host near;

  explicit Pair(const std::string& far_keys = "ktls = \"direct\"\n",
                const std::string& near_keys = "ktls = \"direct\"\n")
      : far{{"--allow", "in", "pong", "*"},
            "[[listen]]\nuri = \"tls://127.0.0.1:0\"\nprofile = \"p\"\n[tls.p]\ncertificate = \"" +
                issued.certificate + "\"\nprivate_key = \"" + issued.key + "\"\n" + far_keys},
        near{{},
             "[routes]\npong = { target = \"tls://localhost:" + std::to_string(far.port()) +
                 "/pong\", profile = \"p\" }\n[tls.p]\nca = \"" + ca.certificate() + "\"\n" + near_keys} {}
};

struct Joined {
  ipc::Connection client;
  ipc::Caller caller;
};

Joined join(const Pair& pair, bool client_asks = true, bool service_asks = true) {
  auto service = must(ipc::Service::serve("pong", {.rundir = pair.far.rundir(), .ktls = service_asks}));
  auto client = must(ipc::Client{pair.near.rundir()}.connect("pong", {.networkd = "", .ktls = client_asks}));
  return {std::move(client), must(service.accept(patience))};
}

/// Whose socket the kernel's TLS is on, as far as this kernel has it.
void must_be_handed_over(const Joined& joined, bool to_client, bool to_service) {
  const bool can = kernel_has_tls();
  const auto* path = !can ? "relay" : to_client ? "ktls" : "ktls-relay";
  cr_assert(joined.client.path == path, "%s", joined.client.path.c_str());
  cr_assert_eq(ipc::is_kernel_tls(joined.client.fd.borrow()), can && to_client);
  cr_assert_eq(ipc::is_kernel_tls(joined.caller.fd.borrow()), can && to_service);
}

/// Both ways at once, then an end in order both ways.
void must_carry(int client, int service) {
  const auto there = pattern(1), back = pattern(2);
  std::string came_there, came_back;
  std::thread writer{[&] {
    send_all(client, there);
    cr_assert_eq(::ipc_shutdown(client), 0);
  }};
  std::thread answerer{[&] {
    send_all(service, back);
    came_there = read_all(service);
    send_all(service, "and the last word");
    cr_assert_eq(::ipc_shutdown(service), 0);
  }};
  int error = 0;
  came_back = read_all(client, &error);
  writer.join();
  answerer.join();
  cr_assert_eq(error, 0);
  cr_assert(came_there == there);
  cr_assert(came_back == back + "and the last word");
  ::ipc_shutdown(client);  // once more does no harm
  cr_assert(read_all(client, &error).empty() && error == 0);
}
}  // namespace

Test(tlsd_direct, sockets_are_handed_over_with_each_cipher) {
  for (const std::string suite : suites) {
    const auto keys = "ktls = \"direct\"\nciphersuites = \"" + suite + "\"\n";
    Pair pair{keys, keys};
    for (int round = 0; round < 2; ++round) {  // the second one resumes
      const auto joined = join(pair);
      cr_assert_eq(joined.client.labels.at("tls.cipher"), suite);
      cr_assert_eq(joined.client.labels.at("tls.alpn"), "plumb/1");
      must_be_handed_over(joined, true, true);
      must_carry(joined.client.fd.borrow(), joined.caller.fd.borrow());
    }
  }
}

Test(tlsd_direct, nobody_keeps_a_copy_of_what_was_handed_over) {
  if (!kernel_has_tls()) cr_skip("this kernel has no TLS");
  Pair pair;
  const auto joined = join(pair);
  for (const auto* host : {&pair.near, &pair.far}) {
    const auto inode = inode_of((host == &pair.near ? joined.client.fd : joined.caller.fd).borrow());
    const auto tlsd = host->helper("tlsd");
    cr_assert(eventually([&] { return !holds_socket(tlsd, inode); }));
    cr_assert(eventually([&] { return !holds_socket(host->router_pid(), inode); }));
  }
  cr_assert(is_fit_for_clients(joined.client.fd.borrow()));
  cr_assert(is_fit_for_clients(joined.caller.fd.borrow()));
}

Test(tlsd_direct, who_does_not_ask_is_relayed_and_the_other_side_is_not) {
  Pair pair;
  for (const bool client_asks : {true, false}) {
    const auto joined = join(pair, client_asks, !client_asks);
    cr_assert_eq(joined.client.labels.at("tls.alpn"), "plumb/1");
    must_be_handed_over(joined, client_asks, !client_asks);
    must_carry(joined.client.fd.borrow(), joined.caller.fd.borrow());
  }
}

Test(tlsd_direct, without_the_other_hosts_word_nothing_is_handed_over) {
  const std::string direct = "ktls = \"direct\"\n", relay = "ktls = \"relay\"\n";
  const std::pair<std::string, std::string> kinds[] = {
      {relay, direct},
      {direct, relay},
      {relay + "alpn = [\"other\"]\n", direct},  // an offer of the agreement alone is no offer
      {direct + "versions = [\"1.2\"]\n", direct}};
  for (const auto& [far, near] : kinds) {
    Pair pair{far, near};
    const auto joined = join(pair);
    cr_assert_not(joined.client.labels.contains("tls.alpn"));
    cr_assert_neq(joined.client.path, "ktls");
    cr_assert_not(ipc::is_kernel_tls(joined.client.fd.borrow()));
    cr_assert_not(ipc::is_kernel_tls(joined.caller.fd.borrow()));
    must_carry(joined.client.fd.borrow(), joined.caller.fd.borrow());
  }
}

Test(tlsd_direct, an_end_without_a_word_is_a_cut) {
  if (!kernel_has_tls()) cr_skip("this kernel has no TLS");
  Pair pair;
  for (const bool service_relayed : {false, true}) {
    auto joined = join(pair, true, !service_relayed);
    send_all(joined.client.fd.borrow(), "half of it");
    joined.client.fd = ipc::Fd{};  // as a process does that dies
    int error = 0;
    cr_assert_eq(read_all(joined.caller.fd.borrow(), &error), "half of it");
    cr_assert_eq(error, ECONNRESET);
  }
}

Test(tlsd_direct, closing_with_a_word_is_an_end) {
  Pair pair;
  auto joined = join(pair);
  send_all(joined.client.fd.borrow(), "all of it");
  cr_assert_eq(::ipc_close(std::move(joined.client.fd).release()), 0);
  int error = 0;
  cr_assert_eq(read_all(joined.caller.fd.borrow(), &error), "all of it");
  cr_assert_eq(error, 0);
}

Test(tlsd_direct, messages_travel_and_end_in_order) {
  Pair pair;
  auto joined = join(pair);
  must_be_handed_over(joined, true, true);
  ipc::MessageSocket service{std::move(joined.caller.fd)};
  {
    ipc::MessageSocket client{std::move(joined.client.fd)};
    must(client.send({.user_type = 7, .payload = pattern(3)}));
    const auto got = must(service.receive());
    cr_assert(got && got->user_type == 7 && got->payload == pattern(3));
    must(service.send({.payload = "answer"}));
    cr_assert_eq(must(client.receive())->payload, "answer");
  }
  cr_assert_not(must(service.receive()));
}

Test(tlsd_direct, plumb_connect_reads_what_it_is_handed) {
  Pair pair;
  auto service = must(ipc::Service::serve("pong", {.rundir = pair.far.rundir(), .ktls = true}));
  std::thread server{[&] {
    auto caller = service.accept(patience);
    if (!caller) return;
    const auto said = read_all(caller->fd.borrow());
    send_all(caller->fd.borrow(), "you said " + said);
    ::ipc_close(std::move(caller->fd).release());
  }};
  const auto outcome =
      run({.args = {binary("plumb"), "--rundir", pair.near.rundir(), "connect", "pong"}}, "hello");
  server.join();
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  cr_assert_eq(outcome.output, "you said hello");
}

namespace {
/// A far end that agrees and then breaks its word; what the client reads.
std::string read_after(const std::function<void(TlsEnd&)>& misbehave, int& error) {
  DialBench bench{{}, [&](TlsEnd& end) {
                    end.receive_exactly(hop_frame("pong").size());
                    end.send(ipc::hop_ok());
                    end.receive_exactly(1);
                    misbehave(end);
                    end.receive_all();
                  }};
  SSL_CTX_set_alpn_select_cb(
      bench.context.get(),
      [](SSL*, const unsigned char** chosen, unsigned char* length, const unsigned char* offered, unsigned,
         void*) {
        *length = *offered;
        *chosen = offered + 1;
        return SSL_TLSEXT_ERR_OK;
      },
      nullptr);
  auto answer =
      bench.router.dial(tls(bench.server.port(), "/pong"),
                        R"("ktls":true,"service":"pong","hops":1,)" + bench.settings({{"ktls", "direct"}}));
  cr_assert_eq(answer.result()["path"].string_or(""), "ktls", "%s", answer.text.c_str());
  const auto socket = answer.take_fd();
  send_all(socket.borrow(), "x");
  auto all = read_all(socket.borrow(), &error);
  ::ipc_shutdown(socket.borrow());
  return all;
}
}  // namespace

Test(tlsd_direct, a_far_side_that_breaks_its_word_is_a_cut_at_worst) {
  if (!kernel_has_tls()) cr_skip("this kernel has no TLS");
  int error = 0;
  const auto ticket = [](TlsEnd& end) {
    end.send("one ");
    SSL_new_session_ticket(end.ssl.get());
    end.send("two");
    end.close_notify();
  };
  cr_assert_eq(read_after(ticket, error), "one two");
  cr_assert_eq(error, 0);
  const auto new_keys = [](TlsEnd& end) {
    end.send("one ");
    SSL_key_update(end.ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    end.send("two");
  };
  cr_assert_eq(read_after(new_keys, error), "one ");
  cr_assert_eq(error, ECONNRESET);
}
