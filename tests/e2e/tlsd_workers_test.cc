// Many handshakes at once: over several processes, and beside relays that must go on.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>

#include "tests/e2e/host.hh"
#include "tests/e2e/tls_kit.hh"

using namespace kit;

namespace {
void allow_many_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// A TLS client that has said hello and reads nothing.
struct Hello {
  explicit Hello(SSL_CTX* context, std::uint16_t port)
      : socket{connect_tcp(port)}, end{context, socket.borrow(), false} {
    ::fcntl(socket.borrow(), F_SETFL, O_NONBLOCK);
    is_done = end.shake_hands();  // a tlsd that is quick may have answered already
  }
  bool is_answered(std::chrono::milliseconds wait = 0ms) const {
    return is_done || is_readable(socket.borrow(), wait);
  }
  /// By a handshake, not by the end of the connection.
  bool is_greeted() const {
    char byte = 0;
    return is_done || ::recv(socket.borrow(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }
  ipc::Fd socket;
  TlsEnd end;
  bool is_done = false;
};

/// A host with a TLS listener for the service pong and as many processes of tlsd as `workers` says.
struct Farm {
  TempDir dir;
  Authority ca{dir};
  Issued issued = ca.issue("server");
  tlsd::SslCtx context = client_context(ca.certificate());
  Host host;
  Offer pong{host, "pong"};
  std::uint16_t port = host.port();

  explicit Farm(const std::string& workers, std::uint16_t at = 0) : host{{}, config(workers, at)} {}
  std::string config(const std::string& workers, std::uint16_t at) const {
    return "rules = ['allow in pong tls']\n[[listen]]\nuri = 'tls://127.0.0.1:" + std::to_string(at) +
           "'\nservice = 'pong'\nprofile = 'own'\n[tls.own]\ncertificate = '" + issued.certificate +
           "'\nprivate_key = '" + issued.key + "'\nktls = 'off'\n" + workers;
  }
  std::vector<pid_t> tlsds() const {
    std::vector<pid_t> pids;
    auto answer = host.status();
    const auto helpers = answer.result()["helpers"];
    for (std::size_t i = 0; i < helpers.size(); ++i)
      if (helpers.at(i)["name"].string_or("") == "tlsd" && helpers.at(i)["state"].string_or("") == "ready")
        pids.push_back(static_cast<pid_t>(helpers.at(i)["pid"].integer_or(0)));
    return pids;
  }
  /// One connection from a client to the service, and which process relays it.
  struct Pair {
    ipc::Fd client, service;
    std::unique_ptr<TlsEnd> end;
    bool resumed;
    void must_ping() const {
      end->send("ping");
      cr_assert(receive_exactly(service.borrow(), 4) == "ping");
      send_all(service.borrow(), "pong");
      cr_assert(end->receive_exactly(4) == "pong");
    }
  };
  Pair connect(SSL_SESSION* session = nullptr) {
    auto client = connect_tcp(port);
    auto end = std::make_unique<TlsEnd>(context.get(), client.borrow(), false);
    if (session != nullptr) SSL_set_session(end->ssl.get(), session);
    cr_assert(end->shake_hands());
    const bool resumed = SSL_session_reused(end->ssl.get()) == 1;
    return {std::move(client), pong.accept().first, std::move(end), resumed};
  }
};
constexpr const char* two_workers = "[helpers.tlsd]\nworkers = 2\n";
}  // namespace

Test(tlsd_workers, connections_that_come_in_are_spread_over_all_processes) {
  Farm farm{two_workers};
  cr_assert(eventually([&] { return farm.tlsds().size() == 2; }));
  const auto tlsds = farm.tlsds();
  std::vector<std::size_t> at_rest;
  for (const auto pid : tlsds) at_rest.push_back(open_fds(pid));
  constexpr std::size_t some = 8;  // a listener, a file or two, and more than one connection
  std::vector<Farm::Pair> held;
  // The second one listens a moment after the first; then each connection is one's or the other's by chance.
  const auto all_have_some = [&] {
    held.push_back(farm.connect());
    for (std::size_t i = 0; i < tlsds.size(); ++i)
      if (open_fds(tlsds[i]) < at_rest[i] + some) return false;
    return true;
  };
  cr_assert(eventually(all_have_some));
  for (const auto& pair : held) {
    pair.end->send("question");
    cr_assert(receive_exactly(pair.service.borrow(), 8) == "question");
  }
}

Test(tlsd_workers, each_takes_the_tickets_of_the_others) {
  Farm farm{two_workers};
  cr_assert(eventually([&] { return farm.tlsds().size() == 2; }));
  static tlsd::SslSession kept;
  SSL_CTX_set_session_cache_mode(farm.context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(farm.context.get(), [](SSL*, SSL_SESSION* session) {
    kept.reset(session);
    return 1;
  });
  const auto tlsds = farm.tlsds();
  const auto rest = std::pair{open_fds(tlsds[0]), open_fds(tlsds[1])};
  constexpr std::size_t some = 8;
  std::vector<Farm::Pair> held;
  const auto both_have_some = [&] {
    held.push_back(farm.connect(kept.get()));
    cr_assert_eq(held.back().resumed, held.size() > 1);
    send_all(held.back().service.borrow(), "x");
    cr_assert(held.back().end->receive_exactly(1) == "x");  // and the ticket before it
    cr_assert(kept != nullptr);
    return open_fds(tlsds[0]) >= rest.first + some && open_fds(tlsds[1]) >= rest.second + some;
  };
  cr_assert(eventually(both_have_some));
}

Test(tlsd_workers, a_profile_may_ask_for_them) {
  Farm farm{"workers = 3\n"};
  cr_assert(eventually([&] { return farm.tlsds().size() == 3; }));
}

Test(tlsd_workers, a_port_that_somebody_else_has_is_taken_all_the_same) {
  Farm farm{two_workers};
  cr_assert(eventually([&] { return farm.tlsds().size() == 2; }));
  const TempDir dir;
  write_file(dir / "plumberd.toml", farm.config(two_workers, farm.port));
  const auto second =
      run({.args = {binary("plumberd"), "--rundir", dir / "run", "--config", dir / "plumberd.toml"}});
  cr_assert_eq(second.status, 1);
  cr_assert(second.error.find("in use") != std::string::npos, "%s", second.error.c_str());
}

Test(tlsd_workers, one_that_dies_listens_again_beside_the_others) {
  Farm farm{two_workers};
  cr_assert(eventually([&] { return farm.tlsds().size() == 2; }));
  const auto before = farm.tlsds();
  ::kill(before.front(), SIGKILL);
  cr_assert(eventually([&] {
    const auto now = farm.tlsds();
    return now.size() == 2 && now.front() != before.front();
  }));
  // The new one's share: the other is held still, so that only it answers.
  ::kill(before.back(), SIGSTOP);
  cr_assert(eventually([&] {
    const Hello hello{farm.context.get(), farm.port};
    return hello.is_answered(50ms);
  }));
  ::kill(before.back(), SIGCONT);
}

Test(tlsd_workers, a_flood_of_handshakes_does_not_stop_a_relay_and_each_has_its_turn) {
  allow_many_descriptors();
  Farm farm{""};
  const auto relayed = farm.connect();
  const auto tlsd = farm.host.helper("tlsd");
  // All say hello while tlsd is held still: then there is a second of handshakes to do at once, more than may
  // keep it waiting.
  constexpr int many = 1200;
  ::kill(tlsd, SIGSTOP);
  std::vector<std::unique_ptr<Hello>> flood;
  for (int i = 0; i < many; ++i) flood.push_back(std::make_unique<Hello>(farm.context.get(), farm.port));
  ::kill(tlsd, SIGCONT);
  for (int i = 0; i < 5; ++i) relayed.must_ping();
  const auto answered = std::ranges::count_if(flood, [](const auto& hello) { return hello->is_answered(); });
  cr_assert(answered < many, "the relay waited for all of the flood");
  cr_assert(eventually(
      [&] { return std::ranges::all_of(flood, [](const auto& hello) { return hello->is_greeted(); }); }));
}

Test(tlsd_workers, a_flood_of_new_keys_does_not_stop_a_relay) {
  Farm farm{""};
  const auto relayed = farm.connect();
  const auto flooder = farm.connect();
  auto* ssl = flooder.end->ssl.get();
  auto* kept = BIO_new(BIO_s_mem());
  SSL_set0_wbio(ssl, kept);
  for (int i = 0; i < 200'000; ++i) {
    SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    SSL_do_handshake(ssl);
  }
  flooder.end->send("x");
  const auto flood = tlsd::text_of(kept);
  std::jthread sender{[&] {
    for (std::size_t at = 0; at < flood.size();) {
      const auto sent = ::send(flooder.client.borrow(), flood.data() + at, flood.size() - at, MSG_NOSIGNAL);
      if (sent < 0) return;
      at += static_cast<std::size_t>(sent);
    }
  }};
  for (int i = 0; i < 5; ++i) relayed.must_ping();
  cr_assert_not(is_readable(flooder.service.borrow(), 0ms), "the relay waited for all of the flood");
  cr_assert(receive_exactly(flooder.service.borrow(), 1) == "x");
}
