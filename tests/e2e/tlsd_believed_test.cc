// Whom tlsd's listeners believe to be who they say.
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/e2e/tls_bench.hh"
#include "tests/e2e/tls_listen_bench.hh"

using namespace kit;

namespace {
void must_lead_to(const ipc::Fd& client, const ipc::Fd& service) {
  send_all(client.borrow(), "there");
  cr_assert(receive_exactly(service.borrow(), 5) == "there");
}

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

Test(tlsd_believed, who_shows_neither_a_certificate_nor_a_key_is_told_so) {
  TempDir dir;
  write_file(dir / "psk", std::string("alice:") + alices_key + "\n");
  ::chmod((dir / "psk").c_str(), 0600);
  Mutual bench{{{"psk_file", dir / "psk"}}};
  ScriptedRouter dialler{"tlsd"};
  for (const auto* version : {R"(["1.2"])", R"(["1.3"])"}) {
    const auto settings =
        R"("judge":false,)" + profile({{"ca", bench.ca.certificate()}, {"versions", version}});
    must_fail(dialler.dial(tls(bench.port), settings), "AUTH", "wants a certificate of us");
    bench.must_fail("showed no client certificate", "AUTH");
    dialler.send_dial(7, tls(bench.port, "", std::string("alice:") + alices_key + "@"), settings);
    const auto service = bench.deliver();
    must_lead_to(dialler.answer().take_fd(), service);
  }
}

Test(tlsd_believed, a_list_of_ours_that_has_expired_is_not_put_on_the_peer) {
  Mutual plain;
  const auto list = plain.ca.revocations({}, -3600);
  const auto good = plain.ca.issue("good");
  plain.listen({{"certificate", plain.issued.certificate},
                {"private_key", plain.issued.key},
                {"client_ca", plain.ca.certificate()},
                {"crl", list}},
               "pong");
  plain.must_log("the revocation list " + list + " has expired on");
  ScriptedRouter dialler{"tlsd"};
  for (const auto* version : {R"(["1.2"])", R"(["1.3"])"}) {
    const auto settings = R"("judge":false,)" + profile({{"ca", plain.ca.certificate()},
                                                         {"certificate", good.certificate},
                                                         {"private_key", good.key},
                                                         {"versions", version}});
    must_fail(dialler.dial(tls(plain.port), settings), "AUTH", "our certificate is not accepted");
    plain.must_fail("the revocation list in " + list + " has expired on", "AUTH");
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
  constexpr ssize_t reset = -1, end_of_file = 0;
  for (const auto& limit : limits) {
    ListenBench bench{limit};
    const auto connect = [&](auto serve, ssize_t end_is) {
      const auto socket = connect_tcp(bench.port);
      TlsEnd end{bench.context.get(), socket.borrow(), false};
      std::thread client{[&] { end.shake_hands(); }};
      const ipc::Fd service = serve();
      client.join();
      char byte = 0;
      cr_assert(is_readable(service.borrow()));
      cr_assert_eq(::recv(service.borrow(), &byte, 1, 0), end_is);
      bench.must_log("idle for too long");
    };
    connect([&] { return bench.deliver(); }, reset);
    connect(
        [&] {
          auto [service, theirs] = must(ipc::socket_pair(SOCK_STREAM));
          const int raw = theirs.borrow();
          bench.router.answer(bench.router.expect("accepted"), R"({"token":1,"mode":"relay","fd":0})",
                              {&raw, 1});
          return std::move(service);
        },
        end_of_file);  // a socket of the service's own: the log is all there is
  }
}
