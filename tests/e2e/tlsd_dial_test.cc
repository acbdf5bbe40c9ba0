// tlsd's dials, seen from the router, against OpenSSL in this process.
#include <criterion/criterion.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <thread>

#include "tests/e2e/tls_bench.hh"

using namespace kit;

namespace {
/// What a client says first.
std::string client_hello(const std::string& ca) {
  const auto context = client_context(ca);
  const tlsd::Ssl ssl{SSL_new(context.get())};
  auto* said = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), said);
  SSL_connect(ssl.get());
  ERR_clear_error();
  return tlsd::text_of(said);
}
}  // namespace

Test(tlsd_dial, a_server_is_verified_and_its_plain_bytes_are_handed_over) {
  DialBench bench;
  auto answer = bench.dial();
  const auto socket = answer.take_fd();
  cr_assert(answer.result()["path"].string_or("") == (kernel_has_tls() ? "ktls-relay" : "relay"));
  const auto labels = answer.result()["labels"].labels();
  cr_assert(labels.at("scheme") == "tls");
  cr_assert(labels.at("peer.address") == "127.0.0.1" || labels.at("peer.address") == "::1");
  cr_assert(labels.at("tls.version") == "TLSv1.3");
  cr_assert(labels.at("tls.cipher").starts_with("TLS_"));
  cr_assert(labels.at("cert.name") == "localhost");
  cr_assert(labels.at("cert.names") == "localhost");
  cr_assert(labels.at("cert.issuer") == "CN=ca");
  cr_assert(labels.at("cert.fingerprint") == bench.issued.fingerprint);
  must_echo(socket.borrow());
}

Test(tlsd_dial, tls_1_2_works_and_the_versions_allowed_are_obeyed) {
  DialBench bench;
  auto answer = bench.dial({{"versions", R"(["1.2"])"}});
  must_echo(answer.take_fd().borrow());
  cr_assert(answer.result()["labels"].labels().at("tls.version") == "TLSv1.2");
  SSL_CTX_set_max_proto_version(bench.context.get(), TLS1_2_VERSION);
  must_fail(bench.dial({{"versions", R"(["1.3"])"}}), "AUTH", "version");
  SSL_CTX_set_min_proto_version(bench.context.get(), TLS1_1_VERSION);
  SSL_CTX_set_max_proto_version(bench.context.get(), TLS1_1_VERSION);
  must_fail(bench.dial(), "AUTH", "version too old");
}

Test(tlsd_dial, each_fault_of_a_certificate_has_its_own_sentence) {
  must_fail(DialBench{{.until = -60}}.dial(), "AUTH", "has expired on");
  must_fail(DialBench{{.from = 3600}}.dial(), "AUTH", "not yet valid");
  must_fail(DialBench{{.names = {"other.example", "*.wild.example"}}}.dial(), "AUTH",
            "other.example, *.wild.example");
  must_fail(DialBench{{.names = {}, .common_name = "localhost"}}.dial(), "AUTH", "wrong name");
  must_fail(DialBench{{.usage = "clientAuth"}}.dial(), "AUTH", "wrong purpose");
  must_fail(DialBench{{.rsa_bits = 1024}}.dial(), "AUTH", "weak key");
  must_fail(DialBench{{.digest = "SHA1"}}.dial(), "AUTH", "weak signature");
}

Test(tlsd_dial, an_unknown_issuer_and_a_self_signed_certificate_are_told_apart) {
  DialBench bench;
  Authority other{bench.dir, "other"};
  const auto with_other = R"("judge":false,)" + profile({{"ca", other.certificate()}});
  must_fail(bench.router.dial(tls(bench.server.port()), with_other), "AUTH", "unknown issuer");
  const auto alone = self_signed(bench.dir, "alone");
  const auto context = server_context(alone);
  TcpServer server{serve_tls(context.get(), echo_tls)};
  must_fail(bench.router.dial(tls(server.port()), bench.settings()), "AUTH", "self-signed");
  // Named as `ca`, it is trusted.
  const auto trusted = R"("judge":false,)" + profile({{"ca", alone.certificate}});
  must_echo(bench.router.dial(tls(server.port()), trusted).take_fd().borrow());
}

Test(tlsd_dial, without_ca_the_default_store_decides) {
  DialBench bench;
  must_fail(bench.router.dial(tls(bench.server.port())), "AUTH", "unknown issuer");
  ScriptedRouter other{"tlsd", {"SSL_CERT_FILE=" + bench.ca.certificate()}};
  must_echo(other.dial(tls(bench.server.port())).take_fd().borrow());
}

Test(tlsd_dial, an_address_in_the_uri_must_be_in_the_certificate) {
  DialBench bench{{.names = {"localhost", "IP:127.0.0.1"}}};
  const auto by_address = "tls://127.0.0.1:" + std::to_string(bench.server.port());
  auto answer = bench.router.dial(by_address, bench.settings());
  must_echo(answer.take_fd().borrow());
  cr_assert(answer.result()["labels"].labels().at("cert.names") == "localhost 127.0.0.1");
  DialBench nameless;
  const auto wrong = "tls://127.0.0.1:" + std::to_string(nameless.server.port());
  must_fail(nameless.router.dial(wrong, nameless.settings()), "AUTH", "wrong name");
}

Test(tlsd_dial, server_name_is_sent_and_verified_instead_of_the_host) {
  DialBench bench{{.names = {"inner.example"}}};
  must_echo(bench.dial({{"server_name", "inner.example"}}).take_fd().borrow());
}

Test(tlsd_dial, an_address_as_server_name_is_verified_as_one_and_never_sent) {
  std::atomic<bool> was_sent = false;
  DialBench bench{{.names = {"IP:192.0.2.1"}}, [&](TlsEnd& end) {
                    was_sent = SSL_get_servername(end.ssl.get(), TLSEXT_NAMETYPE_host_name) != nullptr;
                    echo_tls(end);
                  }};
  must_echo(bench.dial({{"server_name", "192.0.2.1"}}).take_fd().borrow());
  cr_assert_not(was_sent);
  must_fail(bench.dial({{"server_name", "192.0.2.2"}}), "AUTH", "wrong name");
}

Test(tlsd_dial, a_server_that_shows_a_certificate_instead_of_taking_the_key_is_told_of_as_such) {
  DialBench bench;
  Authority other{bench.dir, "other"};
  const auto settings = R"("judge":false,)" + profile({{"ca", other.certificate()}});
  const auto with_key = tls(bench.server.port(), "", std::string("alice:") + alices_key + "@");
  const auto answer = bench.router.dial(with_key, settings);
  must_fail(answer, "AUTH", "did not take the pre-shared key of alice");
  cr_assert(text_of(answer).find("name its authority") == std::string::npos, "%s", answer.text.c_str());
}

Test(tlsd_dial, a_list_that_has_expired_is_named_and_one_that_soon_will_is_warned_of) {
  DialBench bench;
  const auto list = bench.ca.revocations({}, -3600);
  must_fail(bench.dial({{"crl", list}}), "AUTH", "the revocation list in " + list + " has expired on");
  cr_assert(bench.router.logs().find("the revocation list " + list + " has expired on") != std::string::npos);
  ScriptedRouter fresh{"tlsd"};
  bench.ca.revocations({}, 6L * 24 * 3600);
  must_echo(fresh.dial(tls(bench.server.port()), bench.settings({{"crl", list}})).take_fd().borrow());
  cr_assert(fresh.logs().find("the revocation list " + list + " expires on") != std::string::npos);
}

Test(tlsd_dial, revoked_is_revoked_and_a_list_must_cover_the_issuer) {
  DialBench bench;
  const auto empty = bench.ca.revocations({});
  must_echo(bench.dial({{"crl", empty}}).take_fd().borrow());
  Authority other{bench.dir, "other"};
  must_fail(bench.dial({{"crl", other.revocations({})}}), "AUTH", "no list in `crl`");
  bench.ca.revocations({bench.issued.certificate});
  ScriptedRouter fresh{"tlsd"};
  must_fail(fresh.dial(tls(bench.server.port()), bench.settings({{"crl", empty}})), "AUTH", "was revoked");
}

Test(tlsd_dial, a_file_of_lists_is_no_way_to_be_trusted) {
  DialBench bench;
  Authority other{bench.dir, "other"};
  const auto list = read_file(bench.ca.revocations({}));
  write_file(bench.dir / "mixed", list + read_file(other.certificate()));
  must_fail(bench.dial({{"crl", bench.dir / "mixed"}}), "AUTH", "it holds a certificate");
  write_file(bench.dir / "empty", "");
  must_fail(bench.dial({{"crl", bench.dir / "empty"}}), "AUTH", "no revocation list");
  must_fail(bench.dial({{"crl", bench.dir / "none"}}), "AUTH", "No such file");
}

Test(tlsd_dial, pins_are_demanded_beside_the_chain_or_instead_of_it) {
  DialBench bench;
  const auto wrong = "sha256//" + std::string(43, 'A') + "=";
  must_echo(bench.dial({{"pins", "[\"" + wrong + "\",\"" + bench.issued.pin + "\"]"}}).take_fd().borrow());
  must_fail(bench.dial({{"pins", "[\"" + wrong + "\"]"}}), "AUTH", "pins");
  const auto alone = self_signed(bench.dir, "alone", {.names = {"whatever"}});
  const auto context = server_context(alone);
  TcpServer server{serve_tls(context.get(), echo_tls)};
  const auto pinned = R"("judge":false,)" + profile({{"verify", "pins"}, {"pins", alone.pin}});
  must_echo(bench.router.dial(tls(server.port()), pinned).take_fd().borrow());
  must_fail(bench.router.dial(tls(bench.server.port()), pinned), "AUTH", "pins");
}

Test(tlsd_dial, our_certificate_is_shown_and_its_lack_is_said_before_the_handover) {
  DialBench bench{{}, [](TlsEnd& end) {
                    const tlsd::Certificate theirs{SSL_get1_peer_certificate(end.ssl.get())};
                    end.send(theirs ? "hello alice" : "who?");
                    end.close_notify();
                  }};
  SSL_CTX_load_verify_locations(bench.context.get(), bench.ca.certificate().c_str(), nullptr);
  SSL_CTX_set_verify(bench.context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  const auto alice = bench.ca.issue("alice", {.names = {"alice"}});
  const auto stranger = self_signed(bench.dir, "stranger");
  for (const auto* version : {R"(["1.2"])", R"(["1.3"])"}) {
    auto answer =
        bench.dial({{"certificate", alice.certificate}, {"private_key", alice.key}, {"versions", version}});
    cr_assert(receive_all(answer.take_fd().borrow()) == "hello alice");
    must_fail(bench.dial({{"versions", version}}), "AUTH", "wants a certificate of us");
    must_fail(
        bench.dial(
            {{"certificate", stranger.certificate}, {"private_key", stranger.key}, {"versions", version}}),
        "AUTH", "our certificate");
  }
}

Test(tlsd_dial, an_identity_selects_the_profile_of_its_name) {
  DialBench bench{{}, [](TlsEnd& end) {
                    const tlsd::Certificate theirs{SSL_get1_peer_certificate(end.ssl.get())};
                    end.send(theirs ? "hello" : "who?");
                    end.close_notify();
                  }};
  SSL_CTX_load_verify_locations(bench.context.get(), bench.ca.certificate().c_str(), nullptr);
  SSL_CTX_set_verify(bench.context.get(), SSL_VERIFY_PEER, nullptr);
  const auto alice = bench.ca.issue("alice", {.names = {"alice"}});
  bench.router.notify("configure", R"({"generation":2,"settings":{"profiles":{"alice":{"certificate":")" +
                                       alice.certificate + R"(","private_key":")" + alice.key +
                                       R"(","ca":")" + bench.ca.certificate() + R"("}}}})");
  auto answer = bench.router.dial(tls(bench.server.port(), "", "alice@"), bench.settings());
  cr_assert(receive_all(answer.take_fd().borrow()) == "hello");
  must_fail(bench.router.dial(tls(bench.server.port(), "", "bob@"), bench.settings()), "AUTH",
            "identity bob");
}

Test(tlsd_dial, pre_shared_keys_from_the_uri_and_from_a_file) {
  const tlsd::SslCtx context{SSL_CTX_new(TLS_server_method())};
  use_psk(context.get());
  TcpServer server{serve_tls(context.get(), echo_tls)};
  ScriptedRouter router{"tlsd"};
  TempDir dir;
  write_file(dir / "psk", std::string("# keys\nbob:0123456789abcdef-not-hex\n\nalice:") + alices_key + "\n");
  for (const auto* version : {R"(["1.2"])", R"(["1.3"])"}) {
    const auto settings = R"("judge":false,)" + profile({{"versions", version}, {"psk_file", dir / "psk"}});
    auto answer = router.dial(tls(server.port(), "", std::string("alice:") + alices_key + "@"), settings);
    must_echo(answer.take_fd().borrow());
    cr_assert(answer.result()["labels"].labels().at("psk.identity") == "alice");
    cr_assert_not(answer.result()["labels"].labels().contains("cert.name"));
    must_echo(router.dial(tls(server.port(), "", "alice@"), settings).take_fd().borrow());
    must_fail(router.dial(tls(server.port(), "", "alice:" + std::string(32, '0') + "@"), settings), "AUTH",
              "pre-shared key");
    must_fail(router.dial(tls(server.port(), "", "bob@"), settings), "AUTH", "pre-shared key");
    must_fail(router.dial(tls(server.port(), "", "carol@"), settings), "AUTH", "identity carol");
  }
  must_fail(router.dial(tls(server.port(), "", "alice:short@")), "BAD_REQUEST", "too short");
}

Test(tlsd_dial, where_keys_are_kept_no_certificate_is_taken_instead) {
  DialBench bench;
  const auto file = bench.dir / "psk";
  for (const std::string keys : {"", "# none\n", "bob:0123456789abcdef-not-hex\n"}) {
    write_file(file, keys);
    ScriptedRouter fresh{"tlsd"};
    must_fail(
        fresh.dial(tls(bench.server.port()), bench.settings({{"psk_file", file}, {"identity", "alice"}})),
        "AUTH", "has no key for the identity alice");
  }
}

Test(tlsd_dial, a_file_of_keys_without_an_identity_is_told_of) {
  DialBench bench;
  use_psk(bench.context.get());
  SSL_CTX_set_max_proto_version(bench.context.get(), TLS1_2_VERSION);
  SSL_CTX_set_cipher_list(bench.context.get(), "PSK");
  write_file(bench.dir / "psk", std::string("alice:") + alices_key + "\n");
  must_fail(bench.dial({{"psk_file", bench.dir / "psk"}}), "AUTH", "tls://identity@host");
}

Test(tlsd_dial, a_server_that_ignores_the_key_is_not_believed_even_with_a_good_certificate) {
  DialBench bench;
  const auto answer = bench.router.dial(
      tls(bench.server.port(), "", std::string("alice:") + alices_key + "@"), bench.settings());
  cr_assert(answer.word() == "AUTH", "%s", answer.text.c_str());
}

Test(tlsd_dial, what_is_no_tls_is_unreachable) {
  ScriptedRouter router{"tlsd"};
  TcpServer http{[](int socket) {
    send_all(socket, "HTTP/1.1 400 Bad Request\r\n\r\n");
    receive_all(socket);
  }};
  must_fail(router.dial(tls(http.port())), "UNREACHABLE", "does not speak TLS");
  TcpServer closes{[](int) {}};
  cr_assert(router.dial(tls(closes.port())).word() == "UNREACHABLE");
  cr_assert(router.dial(tls(free_port())).word() == "UNREACHABLE");
}

Test(tlsd_dial, a_stalled_handshake_ends_at_the_deadline) {
  ScriptedRouter router{"tlsd"};
  TcpServer silent{[](int socket) { receive_all(socket); }};
  must_fail(router.dial(tls(silent.port()), R"("judge":false,"deadline_ms":150)"), "TIMEOUT", "handshake");
  must_fail(router.dial(tls(silent.port()), R"("judge":false,)" + profile({{"handshake_timeout_ms", "100"}})),
            "TIMEOUT", "handshake_timeout");
  cr_assert(router.is_back_to_rest());
}

Test(tlsd_dial, the_hop_is_spoken_inside_of_tls_and_leaves_the_first_byte_alone) {
  DialBench bench{{}, [](TlsEnd& end) {
                    const auto hop = end.receive_exactly(hop_frame("pong").size());
                    end.send(ipc::hop_ok() + "first words");
                    end.receive_all();
                    end.close_notify();
                  }};
  auto answer = bench.router.dial(tls(bench.server.port(), "/pong"),
                                  R"("service":"pong","hops":1,)" + bench.settings());
  const auto socket = answer.take_fd();
  cr_assert(receive_exactly(socket.borrow(), 11) == "first words");
  ::shutdown(socket.borrow(), SHUT_WR);
  cr_assert(receive_all(socket.borrow()).empty());
}

Test(tlsd_dial, a_certificate_refused_after_the_handshake_is_told_by_the_hop) {
  DialBench bench;
  SSL_CTX_load_verify_locations(bench.context.get(), bench.ca.certificate().c_str(), nullptr);
  SSL_CTX_set_verify(bench.context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  must_fail(bench.router.dial(tls(bench.server.port(), "/pong"),
                              R"("service":"pong","hops":1,)" + bench.settings()),
            "AUTH", "it wants a certificate");
}

Test(tlsd_dial, a_first_word_that_waits_for_its_turn_may_come_too_late) {
  std::promise<void> shaken, flooded, calm;
  DialBench bench{{}, [&](TlsEnd& end) {
                    shaken.set_value();
                    flooded.get_future().wait();
                    end.send(ipc::hop_ok().substr(0, 1));
                    end.receive_exactly(hop_frame("pong").size());
                    calm.get_future().wait();
                    end.send(ipc::hop_ok().substr(1));
                    echo_tls(end);
                  }};
  SSL_CTX_set_verify(bench.context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_num_tickets(bench.context.get(), 0);
  const auto slow = bench.ca.issue("slow", {.rsa_bits = 4096});
  const auto port = bench.router.listen_port(
      "tls://127.0.0.1:0", profile({{"certificate", slow.certificate}, {"private_key", slow.key}}));
  const auto hello = client_hello(bench.ca.certificate());
  bench.router.send_dial(7, tls(bench.server.port(), "/pong"),
                         R"("service":"pong","hops":1,)" + bench.settings());
  shaken.get_future().wait();
  // Half a second of others' signatures goes before the word, which is waited for a quarter of one.
  std::vector<ipc::Fd> flood;
  for (int i = 0; i < 200; ++i) send_all(flood.emplace_back(connect_tcp(port)).borrow(), hello);
  cr_assert(is_readable(flood[8].borrow()));  // by now the queue is long
  flooded.set_value();
  cr_assert(is_readable(flood.back().borrow()));
  calm.set_value();
  auto answer = bench.router.answer();
  cr_assert(answer.word().empty(), "%s", answer.text.c_str());
  must_echo(answer.take_fd().borrow());
}
