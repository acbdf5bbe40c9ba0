// tlsd's listeners, seen from the router and from OpenSSL clients in this process.
#include <criterion/criterion.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <thread>

#include "tests/e2e/tls_listen_bench.hh"
#include "tlsd/names.hh"

using namespace kit;

namespace {
using Bench = ListenBench;

void use_psk(SSL_CTX* context, bool right = true, const char* identity = "alice") {
  static const char* name;
  static bool is_right;
  name = identity;
  is_right = right;
  SSL_CTX_set_psk_client_callback(context,
                                  [](SSL*, const char*, char* id, unsigned, unsigned char* key, unsigned) {
                                    std::copy_n(name, std::string_view{name}.size() + 1, id);
                                    for (unsigned i = 0; i < 16; ++i)
                                      key[i] = static_cast<unsigned char>(i * (is_right ? 17 : 16));
                                    return 16U;
                                  });
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set_cipher_list(context, "PSK");
}
constexpr const char* alices_key = "00112233445566778899aabbccddeeff";
}  // namespace

Test(tlsd_listen, a_raw_listener_hands_plain_bytes_to_the_service) {
  Bench bench;
  const auto socket = connect_tcp(bench.port);
  TlsEnd end{bench.context.get(), socket.borrow(), false};
  std::thread client{[&] {
    if (!end.shake_hands() || !end.send("question")) return;
    end.close_notify();
  }};
  ipc::Labels labels;
  const auto service = bench.deliver(&labels);
  client.join();
  cr_assert(receive_all(service.borrow()) == "question");
  cr_assert(labels.at("scheme") == "tls");
  cr_assert(labels.at("peer.address") == "127.0.0.1");
  cr_assert(labels.at("tls.version") == "TLSv1.3");
  cr_assert_not(labels.contains("cert.name"));
  send_all(service.borrow(), "answer");
  ::shutdown(service.borrow(), SHUT_RDWR);
  bool clean = false;
  cr_assert(end.receive_all(&clean) == "answer");
  cr_assert(clean);
}

Test(tlsd_listen, the_hop_is_read_inside_of_tls) {
  Bench bench{{}, ""};
  const auto socket = connect_tcp(bench.port);
  TlsEnd end{bench.context.get(), socket.borrow(), false};
  std::string answer;
  std::thread client{[&] {
    end.shake_hands();
    end.send(hop_frame("pong"));
    answer = end.receive_exactly(ipc::hop_ok().size());
    end.send("ping");
  }};
  const auto service = bench.deliver();
  client.join();
  cr_assert(answer == ipc::hop_ok());
  cr_assert(receive_exactly(service.borrow(), 4) == "ping");
  send_all(service.borrow(), "pong");
  cr_assert(end.receive_exactly(4) == "pong");
}

Test(tlsd_listen, client_certificates_become_labels) {
  Bench bench;
  bench.listen({{"certificate", bench.issued.certificate},
                {"private_key", bench.issued.key},
                {"client_ca", bench.ca.certificate()}},
               "pong");
  const auto alice = bench.ca.issue(
      "alice", {.names = {"Alice.example", "second", "*.wild", "IP:10.1.2.3", "email:eve@a.example"},
                .usage = "clientAuth"});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto context = client_context(bench.ca.certificate());
    show(context.get(), alice);
    SSL_CTX_set_max_proto_version(context.get(), version);
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{context.get(), socket.borrow(), false};
    std::thread client{[&] { end.shake_hands(); }};
    ipc::Labels labels;
    const auto service = bench.deliver(&labels);
    client.join();
    cr_assert(labels.at("cert.name") == "alice.example");
    cr_assert(labels.at("cert.names") == "alice.example second 10.1.2.3", "%s",
              labels.at("cert.names").c_str());
    cr_assert(labels.at("cert.fingerprint") == alice.fingerprint);
    cr_assert(labels.at("cert.issuer") == "CN=ca");
  }
}

Test(tlsd_listen, each_client_that_cannot_be_authenticated_is_refused_and_told_of) {
  Bench bench;
  const Members mutual{{"certificate", bench.issued.certificate},
                       {"private_key", bench.issued.key},
                       {"client_ca", bench.ca.certificate()}};
  bench.listen(mutual, "pong");
  Authority other{bench.dir, "other"};
  const auto refuse = [&](const Issued* shown, std::string_view because) {
    for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
      const auto context = client_context(bench.ca.certificate());
      if (shown != nullptr) show(context.get(), *shown);
      SSL_CTX_set_max_proto_version(context.get(), version);
      bench.must_refuse(context.get(), because);
    }
  };
  refuse(nullptr, "showed no client certificate");
  const auto expired = bench.ca.issue("expired", {.until = -60});
  refuse(&expired, "has expired on");
  const auto early = bench.ca.issue("early", {.from = 3600});
  refuse(&early, "not yet valid");
  const auto foreign = other.issue("foreign");
  refuse(&foreign, "unknown issuer");
  const auto alone = self_signed(bench.dir, "alone");
  refuse(&alone, "self-signed");
  const auto purpose = bench.ca.issue("purpose", {.usage = "serverAuth"});
  refuse(&purpose, "wrong purpose");
  const auto weak = bench.ca.issue("weak", {.rsa_bits = 1024});
  refuse(&weak, "weak key");
  const auto revoked = bench.ca.issue("revoked");
  auto listed = mutual;
  listed.emplace_back("crl", bench.ca.revocations({revoked.certificate}));
  bench.listen(listed, "pong");
  refuse(&revoked, "was revoked");
}

Test(tlsd_listen, pre_shared_keys_need_no_certificate) {
  Bench bench;
  write_file(bench.dir / "psk", std::string("alice:") + alices_key + "\n");
  bench.listen({{"psk_file", bench.dir / "psk"}}, "pong");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto context = client_context(bench.ca.certificate());
    SSL_CTX_set_max_proto_version(context.get(), version);
    use_psk(context.get());
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{context.get(), socket.borrow(), false};
    std::thread client{[&] {
      end.shake_hands();
      end.send("hello");
    }};
    ipc::Labels labels;
    const auto service = bench.deliver(&labels);
    client.join();
    cr_assert(labels.at("psk.identity") == "alice");
    cr_assert(receive_exactly(service.borrow(), 5) == "hello");
    use_psk(context.get(), false);
    bench.must_refuse(context.get(), "wrong pre-shared key for the identity alice");
    use_psk(context.get(), true, "mallory");
    bench.must_refuse(context.get(), "mallory");
  }
}

Test(tlsd_listen, old_versions_and_garbage_are_refused_and_told_of) {
  Bench bench;
  const auto old = client_context(bench.ca.certificate());
  SSL_CTX_set_min_proto_version(old.get(), TLS1_1_VERSION);
  SSL_CTX_set_max_proto_version(old.get(), TLS1_1_VERSION);
  bench.must_refuse(old.get(), "version too old");
  const auto garbage = connect_tcp(bench.port);
  send_all(garbage.borrow(), "GET / HTTP/1.0\r\n\r\n");
  bench.must_fail("does not speak TLS", "UNREACHABLE");
  const auto gone = connect_tcp(bench.port);
  ::shutdown(gone.borrow(), SHUT_WR);
  bench.must_fail("closed the connection within the TLS handshake", "UNREACHABLE");
}

Test(tlsd_listen, a_stalled_handshake_is_ended_and_told_of) {
  Bench bench;
  bench.listen({{"certificate", bench.issued.certificate},
                {"private_key", bench.issued.key},
                {"handshake_timeout_ms", "100"}},
               "pong");
  const auto socket = connect_tcp(bench.port);
  send_all(socket.borrow(), "\x16\x03\x01");
  bench.must_fail("handshake_timeout", "TIMEOUT");
  cr_assert(receive_all(socket.borrow()).empty());
}

Test(tlsd_listen, a_flood_of_handshakes_leaves_room_and_does_not_flood_the_log) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < 3000) cr_skip("too few descriptors for a flood");
  Bench bench;
  std::vector<ipc::Fd> flood;
  for (int i = 0; i < 1100; ++i) flood.push_back(connect_tcp(bench.port));
  const auto socket = connect_tcp(bench.port);
  TlsEnd end{bench.context.get(), socket.borrow(), false};
  std::thread client{[&] {
    end.shake_hands();
    end.send("here I am");
  }};
  const auto service = bench.deliver();
  client.join();
  cr_assert(receive_exactly(service.borrow(), 9) == "here I am");
  flood.clear();
  cr_assert(eventually([&] { return bench.router.fds() < 40; }));
}

Test(tlsd_listen, renegotiation_is_not_done) {
  Bench bench;
  SSL_CTX_set_max_proto_version(bench.context.get(), TLS1_2_VERSION);
  const auto socket = connect_tcp(bench.port);
  TlsEnd end{bench.context.get(), socket.borrow(), false};
  std::thread client{[&] { end.shake_hands(); }};
  const auto service = bench.deliver();
  client.join();
  SSL_renegotiate(end.ssl.get());
  cr_assert_not(end.shake_hands());
  ::shutdown(socket.borrow(), SHUT_RDWR);
  bench.must_log("renegotiat");
}

Test(tlsd_listen, a_truncated_stream_is_a_reset_at_the_service) {
  Bench bench;
  ipc::Fd service;
  {
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{bench.context.get(), socket.borrow(), false};
    std::thread client{[&] {
      end.shake_hands();
      end.send("half");
    }};
    service = bench.deliver();
    client.join();
    cr_assert(receive_exactly(service.borrow(), 4) == "half");
  }
  char byte = 0;
  cr_assert_eq(::recv(service.borrow(), &byte, 1, 0), -1);
}

Test(tlsd_listen, a_service_with_a_socket_of_its_own_is_relayed_to_and_a_cut_is_told_of) {
  Bench bench;
  auto [service, theirs] = must(ipc::socket_pair(SOCK_STREAM));
  {
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{bench.context.get(), socket.borrow(), false};
    std::thread client{[&] {
      end.shake_hands();
      end.send("half");
    }};
    const int raw = theirs.borrow();
    bench.router.answer(bench.router.expect("accepted"), R"({"token":1,"mode":"relay","fd":0})", {&raw, 1});
    client.join();
    send_all(service.borrow(), "answer");
    cr_assert(end.receive_exactly(6) == "answer");
  }
  bench.must_log("without TLS's close_notify");
  theirs = ipc::Fd{};
  cr_assert(receive_all(service.borrow()) == "half");
}

Test(tlsd_listen, clients_resume_with_tickets_and_alpn_is_chosen) {
  Bench bench{{{"alpn", R"(["h2","http/1.1"])"}}};
  const unsigned char offered[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(bench.context.get(), offered, 9);
  tlsd::SslSession kept;
  for (int i = 0; i < 2; ++i) {
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{bench.context.get(), socket.borrow(), false};
    if (kept) SSL_set_session(end.ssl.get(), kept.get());
    std::thread client{[&] {
      end.shake_hands();
      end.send("x");
      end.receive_exactly(1);
    }};
    ipc::Labels labels;
    const auto service = bench.deliver(&labels);
    send_all(service.borrow(), "y");
    client.join();
    cr_assert(labels.at("tls.alpn") == "http/1.1");
    cr_assert_eq(SSL_session_reused(end.ssl.get()), i);
    kept.reset(SSL_get1_session(end.ssl.get()));
    end.close_notify();
  }
}

Test(tlsd_listen, a_renewed_certificate_is_shown_without_a_restart) {
  Bench bench;
  const auto renewed = bench.ca.issue("renewed");
  write_file(bench.issued.certificate, read_file(renewed.certificate));
  write_file(bench.issued.key, read_file(renewed.key));
  cr_assert(eventually([&] {
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{bench.context.get(), socket.borrow(), false};
    std::thread client{[&] { end.shake_hands(); }};
    const auto service = bench.deliver();
    client.join();
    const tlsd::Certificate theirs{SSL_get1_peer_certificate(end.ssl.get())};
    return theirs && SSL_version(end.ssl.get()) > 0 &&
           tlsd::fingerprint_of(theirs.get()) == renewed.fingerprint;
  }));
}

Test(tlsd_listen, a_listener_without_anything_to_prove_itself_is_refused) {
  ScriptedRouter router{"tlsd"};
  const auto answer = router.listen("tls://127.0.0.1:0", R"("service":"pong")");
  cr_assert(answer.word() == "BAD_REQUEST");
  cr_assert(answer.message->failure.text.find("certificate") != std::string::npos);
  const auto no_file =
      router.listen("tls://127.0.0.1:0", R"("service":"pong",)" + profile({{"psk_file", "/none"}}));
  cr_assert(no_file.word() == "AUTH");
}

Test(tlsd_listen, two_tlsds_speak_with_each_other) {
  Bench bench{{}, ""};
  ScriptedRouter dialler{"tlsd"};
  dialler.send_dial(
      1, "tls://localhost:" + std::to_string(bench.port) + "/pong",
      R"("judge":false,"service":"pong","hops":1,)" + profile({{"ca", bench.ca.certificate()}}));
  const auto service = bench.deliver();
  const auto client = dialler.answer().take_fd();
  send_all(client.borrow(), "there");
  cr_assert(receive_exactly(service.borrow(), 5) == "there");
  send_all(service.borrow(), "and back");
  ::shutdown(service.borrow(), SHUT_WR);
  cr_assert(receive_all(client.borrow()) == "and back");
  // Relays go on when the routers are gone.
  bench.router.close();
  dialler.close();
  send_all(client.borrow(), "still");
  cr_assert(receive_exactly(service.borrow(), 5) == "still");
  ::shutdown(client.borrow(), SHUT_RDWR);
  cr_assert(receive_all(service.borrow()).empty());
  ::shutdown(service.borrow(), SHUT_RDWR);
  cr_assert_eq(bench.router.helper().wait(), 0);
  cr_assert_eq(dialler.helper().wait(), 0);
}
