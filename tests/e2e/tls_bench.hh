// A far end that tlsd dials, and what tests ask of it.
#pragma once
#include <criterion/criterion.h>

#include "tests/e2e/tls_kit.hh"

namespace kit {

inline std::string tls(std::uint16_t port, const std::string& path = "", const std::string& user = "") {
  return "tls://" + user + "localhost:" + std::to_string(port) + path;
}

/// An authority, a server of it, and a router with tlsd.
struct DialBench {
  TempDir dir;
  Authority ca{dir};
  Issued issued;
  tlsd::SslCtx context;
  TcpServer server;
  ScriptedRouter router{"tlsd"};

  explicit DialBench(const Wanted& wanted = {}, std::function<void(TlsEnd&)> serve = echo_tls)
      : issued{ca.issue("server", wanted)},
        context{server_context(issued)},
        server{serve_tls(context.get(), std::move(serve))} {}

  std::string settings(std::vector<std::pair<std::string, std::string>> more = {}) const {
    more.emplace_back("ca", ca.certificate());
    return R"("judge":false,)" + profile(more);
  }
  Wire::Datagram dial(std::vector<std::pair<std::string, std::string>> more = {}) {
    return router.dial(tls(server.port()), settings(std::move(more)));
  }
};

inline std::string text_of(const Wire::Datagram& answer) { return answer.message->failure.text; }

inline void must_fail(const Wire::Datagram& answer, std::string_view word, std::string_view because) {
  cr_assert(answer.word() == word, "%s", answer.text.c_str());
  cr_assert(text_of(answer).find(because) != std::string::npos, "%s", answer.text.c_str());
}

inline void must_echo(int socket, std::string_view bytes = "hello") {
  send_all(socket, bytes);
  cr_assert(receive_exactly(socket, bytes.size()) == bytes);
}

inline void use_psk(SSL_CTX* context) {
  SSL_CTX_set_psk_server_callback(context, [](SSL*, const char* identity, unsigned char* key, unsigned) {
    if (std::string_view{identity} != "alice") return 0U;
    for (unsigned i = 0; i < 16; ++i) key[i] = static_cast<unsigned char>(i * 17);
    return 16U;
  });
}
constexpr const char* alices_key = "00112233445566778899aabbccddeeff";
}  // namespace kit
