// Resumed sessions of tlsd: what they skip is looked at again in time.
#include <openssl/pem.h>
#include <sys/stat.h>

#include <atomic>

#include "tests/e2e/tls_bench.hh"
#include "tests/e2e/tls_listen_bench.hh"

using namespace kit;

namespace {

/// A dial that comes to nothing or carries a byte, and says whether it resumed.
struct Resumer {
  std::atomic<int> full = 0, resumed = 0;
  DialBench bench{{}, [this](TlsEnd& end) {
                    SSL_session_reused(end.ssl.get()) == 1 ? ++resumed : ++full;
                    echo_tls(end);
                  }};
  Wire::Datagram dial(const std::vector<std::pair<std::string, std::string>>& more) {
    auto answer = bench.dial(more);
    if (answer.word().empty()) must_echo(answer.take_fd().borrow());
    return answer;
  }
};

std::string file_of_authority(const Authority& ca) {
  const tlsd::Bio file{BIO_new_file(ca.certificate().c_str(), "r")};
  const tlsd::Certificate certificate{PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr)};
  std::array<char, 16> name;
  std::snprintf(name.data(), name.size(), "%08lx.0", X509_subject_name_hash(certificate.get()));
  return name.data();
}
}  // namespace

Test(tlsd_sessions, however_often_they_resume_end_with_their_lifetime) {
  Resumer test;
  const auto has_dialled_anew = [&] {
    test.dial({{"session_lifetime_ms", "2000"}});
    return test.full >= 2;
  };
  cr_assert(eventually(has_dialled_anew), "%d full, %d resumed", test.full.load(), test.resumed.load());
  cr_assert_geq(test.resumed.load(), 2);
}

Test(tlsd_sessions, end_when_a_revocation_list_expires) {
  Resumer test;
  const auto list = test.bench.ca.revocations({}, 8);
  test.dial({{"crl", list}});
  test.dial({{"crl", list}});
  cr_assert_eq(test.resumed.load(), 1);
  Wire::Datagram answer;
  cr_assert(eventually([&] {
    answer = test.dial({{"crl", list}});
    return !answer.word().empty();
  }));
  must_fail(answer, "AUTH", "expired");
}

Test(tlsd_sessions, of_a_listeners_clients_end_with_their_lifetime_however_often_they_resume) {
  ListenBench bench{{{"session_lifetime_ms", "2000"}}};
  SSL_CTX_set_session_cache_mode(bench.context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  static thread_local tlsd::SslSession kept;
  SSL_CTX_sess_set_new_cb(bench.context.get(), [](SSL*, SSL_SESSION* session) {
    kept.reset(session);
    return 1;
  });
  int resumed = 0;
  const auto was_full = [&] {
    const auto socket = connect_tcp(bench.port);
    TlsEnd end{bench.context.get(), socket.borrow(), false};
    if (kept) SSL_set_session(end.ssl.get(), kept.get());
    cr_assert(end.shake_hands());
    const auto service = bench.deliver();
    send_all(service.borrow(), "x");
    cr_assert_eq(end.receive_exactly(1), "x");
    end.close_notify();
    resumed += SSL_session_reused(end.ssl.get());
    return SSL_session_reused(end.ssl.get()) == 0;
  };
  cr_assert(was_full());
  cr_assert(eventually(was_full), "%d resumed", resumed);
  cr_assert_geq(resumed, 2);
  kept.reset();
}

Test(tlsd_sessions, and_trust_go_with_an_authority_that_is_replaced_in_its_directory) {
  Resumer test;
  const TempDir elsewhere;
  const Authority namesake{elsewhere};
  const auto directory = test.bench.dir / "anchors";
  cr_assert_eq(::mkdir(directory.c_str(), 0700), 0);
  const auto file = directory + "/" + file_of_authority(test.bench.ca);
  cr_assert_eq(file_of_authority(namesake), file_of_authority(test.bench.ca));
  write_file(file, read_file(test.bench.ca.certificate()));
  const auto settings = R"("judge":false,)" + profile({{"ca", directory}});
  const auto word = [&] { return test.bench.router.dial(tls(test.bench.server.port()), settings).word(); };
  cr_assert_eq(word(), "");
  write_file(file, read_file(namesake.certificate()));
  cr_assert(eventually([&] { return word() == "AUTH"; }), "an old authority is believed no longer");
}
