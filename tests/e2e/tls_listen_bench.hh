// A TLS listener, and what tests ask of it.
#pragma once
#include <criterion/criterion.h>

#include "tests/e2e/tls_kit.hh"

namespace kit {

using Members = std::vector<std::pair<std::string, std::string>>;

/// A listener of tlsd with a certificate of `ca`, and the settings given.
struct ListenBench {
  TempDir dir;
  Authority ca{dir};
  Issued issued = ca.issue("server");
  ScriptedRouter router{"tlsd"};
  tlsd::SslCtx context = client_context(ca.certificate());
  std::uint16_t port = 0;
  int next_id = 1;

  explicit ListenBench(Members more = {}, const std::string& service = "pong") {
    more.emplace_back("certificate", issued.certificate);
    more.emplace_back("private_key", issued.key);
    listen(more, service);
  }
  void listen(const Members& members, const std::string& service) {
    const auto raw = service.empty() ? "" : R"("service":")" + service + R"(",)";
    port = router.listen_port("tls://127.0.0.1:0", raw + profile(members), next_id++);
  }
  /// Answers the next question with `deliver` and takes the service's socket.
  ipc::Fd deliver(ipc::Labels* labels = nullptr) {
    auto question = router.answer();
    cr_assert(question.message->method == "accepted", "%s", question.text.c_str());
    if (labels != nullptr) *labels = question.message->params["labels"].labels();
    router.answer(question, R"({"token":1,"mode":"deliver"})");
    auto delivery = router.answer();
    cr_assert(delivery.message->method == "deliver", "%s", delivery.text.c_str());
    return delivery.take_fd();
  }
  /// A handshake that must come to nothing, and be told of with this word and sentence.
  void must_refuse(SSL_CTX* with, std::string_view because, std::string_view word = "AUTH") {
    const auto socket = connect_tcp(port);
    TlsEnd end{with, socket.borrow(), false};
    if (end.shake_hands()) end.receive_all();  // TLS 1.3: the refusal comes after
    ERR_clear_error();
    must_fail(because, word);
  }
  void must_fail(std::string_view because, std::string_view word) {
    const auto failed = router.expect("failed");
    const auto params = failed.message->params;
    cr_assert(params["message"].string_or("").find(because) != std::string::npos, "%s", failed.text.c_str());
    cr_assert(params["code"].string_or("") == word, "%s", failed.text.c_str());
    cr_assert(params["listen"].integer_or(0) == next_id - 1, "%s", failed.text.c_str());
    cr_assert(params["labels"].labels().at("peer.address") == "127.0.0.1", "%s", failed.text.c_str());
  }
  void must_log(std::string_view because) {
    const auto log = router.expect("log");
    cr_assert(log.text.find(because) != std::string::npos, "%s", log.text.c_str());
  }
};

inline void show(SSL_CTX* context, const Issued& issued) {
  SSL_CTX_use_certificate_chain_file(context, issued.certificate.c_str());
  SSL_CTX_use_PrivateKey_file(context, issued.key.c_str(), SSL_FILETYPE_PEM);
}
}  // namespace kit
