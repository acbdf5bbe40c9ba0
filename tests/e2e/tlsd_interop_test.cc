// tlsd with other people's TLS, in both directions, TLS 1.2 and 1.3.
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

#include "tests/e2e/tls_kit.hh"

using namespace kit;

namespace {
constexpr const char* alices_key = "00112233445566778899aabbccddeeff";
constexpr const char* versions[] = {"1.2", "1.3"};

void need(const char* program) {
  if (!installed(program)) cr_skip("%s is not installed", program);
}

/// Nothing where nobody listens.
ipc::Fd try_connect(std::uint16_t port) {
  ipc::Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const auto* place = reinterpret_cast<const sockaddr*>(&address);
  return ::connect(socket.borrow(), place, sizeof address) == 0 ? std::move(socket) : ipc::Fd{};
}

bool listens(std::uint16_t port) { return bool{try_connect(port)}; }

/// For a program that passes every connection on, a probe's too, and says nothing when it is ready.
ipc::Fd connect_when_up(std::uint16_t port, const Process& process) {
  ipc::Fd socket;
  const bool connected = eventually([&] {
    socket = try_connect(port);
    return socket || !process.is_running();
  });
  cr_assert(connected && socket, "%s", process.error().c_str());
  return socket;
}

std::string text_of(std::uint16_t port) { return std::to_string(port); }

struct Bench {
  TempDir dir;
  Authority ca{dir};
  Issued issued = ca.issue("server");
  std::string both = dir / "both.pem";
  std::string psk = dir / "psk";
  ScriptedRouter router{"tlsd"};
  int next_id = 1;

  Bench() {
    write_file(both, read_file(issued.certificate) + read_file(issued.key));
    write_file(psk, std::string("alice:") + alices_key + "\n");
    ::chmod(psk.c_str(), 0600);
  }

  /// tlsd dials `port` with only `version` allowed.
  ipc::Fd dial(std::uint16_t port, const char* version, const std::string& user = "") {
    const auto settings = profile(
        {{"ca", ca.certificate()}, {"psk_file", psk}, {"versions", "[\"" + std::string(version) + "\"]"}});
    auto answer = router.dial("tls://" + user + "localhost:" + text_of(port), R"("judge":false,)" + settings);
    cr_assert(answer.word().empty(), "%s", answer.text.c_str());
    cr_assert(answer.result()["labels"].labels().at("tls.version") == "TLSv" + std::string(version));
    return answer.take_fd();
  }

  /// A listener of tlsd with only `version` allowed.
  std::uint16_t listen(const char* version, bool with_psk = false) {
    std::vector<std::pair<std::string, std::string>> members{
        {"versions", "[\"" + std::string(version) + "\"]"}};
    if (with_psk) {
      members.emplace_back("psk_file", psk);
    } else {
      members.emplace_back("certificate", issued.certificate);
      members.emplace_back("private_key", issued.key);
    }
    return router.listen_port("tls://127.0.0.1:0", R"("service":"pong",)" + profile(members), next_id++);
  }

  /// The service's side of the next connection.
  ipc::Fd deliver() {
    auto question = router.answer();
    cr_assert(question.message->method == "accepted", "%s", question.text.c_str());
    router.answer(question, R"({"token":1,"mode":"deliver"})");
    return router.answer().take_fd();
  }

  /// Runs a client program against a service that answers one line with "pong" and ends.
  Outcome with_client(std::vector<std::string> args, std::string_view input = "ping\n") {
    Outcome outcome{};
    std::thread client{[&] { outcome = run({.args = std::move(args)}, input); }};
    {
      const auto service = deliver();
      cr_assert(receive_exactly(service.borrow(), 4) == input.substr(0, 4));
      send_all(service.borrow(), "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\npong\n");
      ::shutdown(service.borrow(), SHUT_WR);
      receive_all(service.borrow());
    }
    client.join();
    return outcome;
  }
};

void must_reverse(int socket) {
  send_all(socket, "abc\n");
  cr_assert(receive_exactly(socket, 4) == "cba\n");
}
void must_echo(int socket) {
  send_all(socket, "hello there\n");
  cr_assert(receive_exactly(socket, 12) == "hello there\n");
}

/// A configuration file, and the program that reads it, ready on `port`.
Process started(std::vector<std::string> args, std::uint16_t port) {
  Process process{std::move(args)};
  cr_assert(eventually([&] { return listens(port) || !process.is_running(); }));
  cr_assert(process.is_running(), "%s", process.error().c_str());
  return process;
}
}  // namespace

Test(tlsd_interop, openssl_s_server) {
  need("openssl");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = free_port();
    const auto server = started(
        {"openssl", "s_server", "-accept", "127.0.0.1:" + text_of(port), "-cert", bench.issued.certificate,
         "-key", bench.issued.key, version[2] == '2' ? "-tls1_2" : "-tls1_3", "-rev", "-quiet"},
        port);
    must_reverse(bench.dial(port, version).borrow());
  }
}

Test(tlsd_interop, openssl_s_server_with_a_pre_shared_key) {
  need("openssl");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = free_port();
    const auto server = started(
        {"openssl", "s_server", "-accept", "127.0.0.1:" + text_of(port), "-nocert", "-psk", alices_key,
         "-psk_identity", "alice", version[2] == '2' ? "-tls1_2" : "-tls1_3", "-rev", "-quiet"},
        port);
    must_reverse(bench.dial(port, version, "alice@").borrow());
    must_reverse(bench.dial(port, version, std::string("alice:") + alices_key + "@").borrow());
  }
}

namespace {
/// What `openssl ocsp` says of a certificate of `ca` as the authority that signs with `signer`'s key.
std::string ocsp_response(const TempDir& dir, const Authority& ca, const std::string& signer,
                          const Issued& about, std::string_view entry) {
  const auto shown =
      run({.args = {"openssl", "x509", "-in", about.certificate, "-noout", "-serial"}}).output;  // serial=64
  const auto serial = shown.substr(shown.find('=') + 1, shown.find('\n') - shown.find('=') - 1);
  write_file(dir / "index", std::string(entry) + "\t" + serial + "\tunknown\t/CN=somebody\n");
  const auto response = dir / "response.der";
  const auto outcome =
      run({.args = {"openssl", "ocsp", "-index", dir / "index", "-CA", ca.certificate(), "-rsigner",
                    signer + ".pem", "-rkey", signer + ".key", "-issuer", ca.certificate(), "-cert",
                    about.certificate, "-respout", response, "-ndays", "1", "-noverify"}});
  cr_assert_eq(outcome.status, 0, "%s", outcome.error.c_str());
  return response;
}
constexpr std::string_view good = "V\t390101000000Z\t";
constexpr std::string_view revoked = "R\t390101000000Z\t200101000000Z";
}  // namespace

Test(tlsd_interop, openssl_s_server_with_a_stapled_ocsp_response) {
  need("openssl");
  Bench bench;
  const Authority stranger{bench.dir, "stranger"};
  struct {
    std::string_view entry;
    std::string signer;
    std::string_view fault;
  } const kinds[] = {{good, "ca", ""},
                     {revoked, "ca", "was revoked (says the stapled OCSP response)"},
                     {good, "stranger", "a stapled OCSP response that nobody trusted has signed"}};
  for (const auto& kind : kinds)
    for (const auto* version : versions) {
      const auto response =
          ocsp_response(bench.dir, bench.ca, bench.dir / kind.signer, bench.issued, kind.entry);
      const auto port = free_port();
      const auto server = started({"openssl", "s_server", "-accept", "127.0.0.1:" + text_of(port), "-cert",
                                   bench.issued.certificate, "-key", bench.issued.key, "-status_file",
                                   response, version[2] == '2' ? "-tls1_2" : "-tls1_3", "-rev", "-quiet"},
                                  port);
      if (kind.fault.empty()) {
        must_reverse(bench.dial(port, version).borrow());
        continue;
      }
      const auto answer = bench.router.dial("tls://localhost:" + text_of(port),
                                            R"("judge":false,)" + profile({{"ca", bench.ca.certificate()}}));
      cr_assert_eq(answer.word(), "AUTH", "%s", answer.text.c_str());
      cr_assert(answer.text.find(kind.fault) != std::string::npos, "%s", answer.text.c_str());
    }
}

Test(tlsd_interop, openssl_s_client) {
  need("openssl");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = bench.listen(version);
    const auto outcome =
        bench.with_client({"openssl", "s_client", "-connect", "127.0.0.1:" + text_of(port), "-servername",
                           "localhost", "-CAfile", bench.ca.certificate(), "-verify_return_error",
                           "-verify_hostname", "localhost", "-quiet"});
    cr_assert(outcome.output.find("pong") != std::string::npos, "%s", outcome.error.c_str());
  }
}

Test(tlsd_interop, openssl_s_client_with_a_pre_shared_key) {
  need("openssl");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = bench.listen(version, true);
    const auto outcome = bench.with_client({"openssl", "s_client", "-connect", "127.0.0.1:" + text_of(port),
                                            "-psk", alices_key, "-psk_identity", "alice", "-quiet"});
    cr_assert(outcome.output.find("pong") != std::string::npos, "%s", outcome.error.c_str());
  }
}

Test(tlsd_interop, gnutls_serv) {
  need("gnutls-serv");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = free_port();
    const auto server = started({"gnutls-serv", "--echo", "--quiet", "-p", text_of(port), "--x509certfile",
                                 bench.issued.certificate, "--x509keyfile", bench.issued.key, "--priority",
                                 std::string("NORMAL:-VERS-ALL:+VERS-TLS") + version},
                                port);
    must_echo(bench.dial(port, version).borrow());
  }
}

Test(tlsd_interop, gnutls_cli) {
  need("gnutls-cli");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = bench.listen(version);
    const auto outcome = bench.with_client(
        {"gnutls-cli", "-p", text_of(port), "--x509cafile", bench.ca.certificate(), "localhost"});
    cr_assert(outcome.output.find("pong") != std::string::npos, "%s %s", outcome.output.c_str(),
              outcome.error.c_str());
  }
}

Test(tlsd_interop, curl) {
  need("curl");
  Bench bench;
  for (const auto* version : versions) {
    const auto port = bench.listen(version);
    const auto outcome =
        bench.with_client({"curl", "-sS", "--noproxy", "*", "--cacert", bench.ca.certificate(),
                           "https://localhost:" + text_of(port) + "/"},
                          "GET ");
    cr_assert(outcome.output == "pong\n", "%s", outcome.error.c_str());
  }
}

Test(tlsd_interop, nginx) {
  need("nginx");
  Bench bench;
  const auto port = free_port();
  write_file(bench.dir / "nginx.conf",
             "daemon off; master_process off; pid " + (bench.dir / "pid") +
                 "; error_log stderr;\nevents {}\nhttp { access_log off; "
                 "client_body_temp_path " +
                 (bench.dir / "b") + "; proxy_temp_path " + (bench.dir / "p") + "; fastcgi_temp_path " +
                 (bench.dir / "f") + "; uwsgi_temp_path " + (bench.dir / "u") + "; scgi_temp_path " +
                 (bench.dir / "s") + "; server { listen 127.0.0.1:" + text_of(port) +
                 " ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate " + bench.issued.certificate +
                 "; ssl_certificate_key " + bench.issued.key + "; location / { return 200 pong; } } }\n");
  const auto server =
      started({"nginx", "-c", bench.dir / "nginx.conf", "-p", bench.dir.path(), "-e", "stderr"}, port);
  for (const auto* version : versions) {
    const auto socket = bench.dial(port, version);
    send_all(socket.borrow(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    std::string got;
    while (got.find("pong") == got.npos) got += receive_exactly(socket.borrow(), 1);
    cr_assert(got.starts_with("HTTP/1.1 200"));
  }
}

Test(tlsd_interop, stunnel_as_server_with_certificate_and_with_key) {
  need("stunnel");
  Bench bench;
  TcpServer behind{echo};
  const auto cert_port = free_port(), psk_port = free_port();
  const auto common = "foreground = yes\npid =\n[cert]\naccept = 127.0.0.1:" + text_of(cert_port) +
                      "\nconnect = 127.0.0.1:" + text_of(behind.port()) + "\ncert = " + bench.both +
                      "\n[psk]\naccept = 127.0.0.1:" + text_of(psk_port) +
                      "\nconnect = 127.0.0.1:" + text_of(behind.port()) +
                      "\nciphers = PSK\nPSKsecrets = " + bench.psk + "\n";
  write_file(bench.dir / "stunnel.conf", common);
  const auto server = started({"stunnel", bench.dir / "stunnel.conf"}, psk_port);
  cr_assert(eventually([&] { return listens(cert_port); }));
  for (const auto* version : versions) {
    must_echo(bench.dial(cert_port, version).borrow());
    must_echo(bench.dial(psk_port, version, "alice@").borrow());
  }
}

Test(tlsd_interop, stunnel_as_client_with_certificate_and_with_key) {
  need("stunnel");
  Bench bench;
  for (const auto* version : versions)
    for (const bool with_psk : {false, true}) {
      const auto port = bench.listen(version, with_psk), near = free_port();
      const auto how =
          with_psk ? "PSKsecrets = " + bench.psk + "\nPSKidentity = alice\nciphers = PSK\n"
                   : "CAfile = " + bench.ca.certificate() + "\nverifyChain = yes\ncheckHost = localhost\n";
      write_file(bench.dir / "client.conf",
                 "foreground = yes\npid =\n[to]\nclient = yes\naccept = 127.0.0.1:" + text_of(near) +
                     "\nconnect = 127.0.0.1:" + text_of(port) + "\n" + how);
      const Process client{{"stunnel", bench.dir / "client.conf"}};
      const auto socket = connect_when_up(near, client);
      send_all(socket.borrow(), "hello there\n");
      const auto service = bench.deliver();
      cr_assert(receive_exactly(service.borrow(), 12) == "hello there\n");
    }
}

Test(tlsd_interop, haproxy_in_both_directions) {
  need("haproxy");
  Bench bench;
  TcpServer behind{echo};
  for (const auto* version : versions) {
    const auto inward = free_port(), outward = free_port();
    const auto listener = bench.listen(version);
    write_file(bench.dir / "haproxy.cfg",
               "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
               "listen in\n bind 127.0.0.1:" +
                   text_of(inward) + " ssl crt " + bench.both + "\n server s 127.0.0.1:" +
                   text_of(behind.port()) + "\nlisten out\n bind 127.0.0.1:" + text_of(outward) +
                   "\n server t 127.0.0.1:" + text_of(listener) + " ssl verify required ca-file " +
                   bench.ca.certificate() + " verifyhost localhost\n");
    const auto proxy = started({"haproxy", "-db", "-f", bench.dir / "haproxy.cfg"}, inward);
    must_echo(bench.dial(inward, version).borrow());
    const auto socket = connect_when_up(outward, proxy);
    send_all(socket.borrow(), "hello there\n");
    const auto service = bench.deliver();
    cr_assert(receive_exactly(service.borrow(), 12) == "hello there\n");
  }
}
