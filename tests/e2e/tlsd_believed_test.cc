// Whom tlsd's listeners believe to be who they say.
#include "tests/e2e/tls_listen_bench.hh"

using namespace kit;

namespace {
/// A listener that wants certificates of the authority's clients, and what else its profile says.
struct Mutual : ListenBench {
  explicit Mutual(Members more = {}) {
    more.emplace_back("certificate", issued.certificate);
    more.emplace_back("private_key", issued.key);
    more.emplace_back("client_ca", ca.certificate());
    listen(more, "pong");
  }
  tlsd::SslCtx client(const Issued& shown) const {
    auto made = client_context(ca.certificate());
    show(made.get(), shown);
    return made;
  }
  /// What is known of a client with this certificate.
  ipc::Labels labels_of(const Issued& shown) {
    const auto with = client(shown);
    const auto socket = connect_tcp(port);
    TlsEnd end{with.get(), socket.borrow(), false};
    std::thread handshake{[&] { end.shake_hands(); }};
    ipc::Labels labels;
    const auto service = deliver(&labels);
    handshake.join();
    return labels;
  }
};
}  // namespace

Test(tlsd_believed, verify_is_of_dials_and_no_client_gets_by_with_it) {
  for (const std::string verify : {"none", "pins"}) {
    TempDir dir;
    const auto alone = self_signed(dir, "alone", {.names = {"admin.example"}});
    Mutual bench{{{"verify", verify}, {"pins", alone.pin}}};
    bench.must_refuse(bench.client(alone).get(), "self-signed");
    // A pin is asked for beside the chain, never instead of it.
    bench.must_refuse(bench.client(bench.ca.issue("unpinned")).get(), "none of `pins`");
  }
}

Test(tlsd_believed, a_common_name_in_two_bytes_a_letter_is_no_name) {
  Mutual bench;
  const auto plain = bench.ca.issue("plain", {.names = {}, .common_name = "admin.co"});
  cr_assert(bench.labels_of(plain).at("cert.name") == "admin.co");
  const auto wide =
      bench.ca.issue("wide", {.names = {}, .common_name = "admin.co", .common_name_type = V_ASN1_BMPSTRING});
  cr_assert_not(bench.labels_of(wide).contains("cert.name"));
}

Test(tlsd_believed, an_identity_that_can_be_written_in_two_ways_is_refused) {
  TempDir dir;
  write_file(dir / "psk", "j\xc3\xbcrgen:0123456789abcdef0123456789abcdef\n");
  ScriptedRouter router{"tlsd"};
  const auto answer =
      router.listen("tls://127.0.0.1:0", R"("service":"pong",)" + profile({{"psk_file", dir / "psk"}}));
  cr_assert(answer.word() == "BAD_REQUEST", "%s", answer.text.c_str());
  cr_assert(answer.text.find("printable ASCII") != std::string::npos, "%s", answer.text.c_str());
}

Test(tlsd_believed, the_shorter_of_two_idle_limits_holds_for_every_service) {
  const Members limits[] = {{{"idle_timeout_ms", "100"}},
                            {{"relay_idle_ms", "100"}},
                            {{"relay_idle_ms", "600000"}, {"idle_timeout_ms", "100"}},
                            {{"relay_idle_ms", "100"}, {"idle_timeout_ms", "600000"}}};
  for (const auto& limit : limits) {
    ListenBench bench{limit};
    const auto connect = [&](auto serve) {
      const auto socket = connect_tcp(bench.port);
      TlsEnd end{bench.context.get(), socket.borrow(), false};
      std::thread client{[&] { end.shake_hands(); }};
      const ipc::Fd service = serve();
      client.join();
      cr_assert(receive_all(service.borrow()).empty());
      bench.router.expect("log");
    };
    connect([&] { return bench.deliver(); });
    connect([&] {
      auto [service, theirs] = must(ipc::socket_pair(SOCK_STREAM));
      const int raw = theirs.borrow();
      bench.router.answer(bench.router.expect("accepted"), R"({"token":1,"mode":"relay","fd":0})", {&raw, 1});
      return std::move(service);
    });
  }
}
