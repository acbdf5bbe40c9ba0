#include "tlsd/ktls.hh"

#include <linux/tls.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tlsd/psk.hh"
#include "tlsd/session.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Result;
using ipc::Word;
using Kdf = std::unique_ptr<EVP_KDF, Release<EVP_KDF_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, Release<EVP_KDF_CTX_free>>;

bool is_absent = false;  ///< the kernel has said that it has no TLS

/// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
bool expand(const EVP_MD* digest, std::span<unsigned char> secret, std::string_view label,
            std::span<unsigned char> out) {
  std::string info{'\0', static_cast<char>(out.size()), static_cast<char>(6 + label.size())};
  info += "tls13 " + std::string(label) + '\0';
  const Kdf kdf{EVP_KDF_fetch(nullptr, "HKDF", nullptr)};
  const KdfContext context{EVP_KDF_CTX_new(kdf.get())};
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  const std::array parameters{
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, const_cast<char*>(EVP_MD_get0_name(digest)), 0),
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end()};
  return EVP_KDF_derive(context.get(), out.data(), out.size(), parameters.data()) == 1;
}

/// Key, nonce and next record number of one direction; wiped.
struct Direction {
  std::array<unsigned char, 32> key{};
  std::array<unsigned char, 12> nonce{};
  std::array<unsigned char, 8> number{};
  Direction() = default;
  Direction(const Direction&) = delete;
  ~Direction() {
    OPENSSL_cleanse(key.data(), key.size());
    OPENSSL_cleanse(nonce.data(), nonce.size());
  }
};

bool derive(const SSL_CIPHER* cipher, const std::string& hex, std::uint64_t records, Direction& out) {
  long size = 0;
  unsigned char* secret = OPENSSL_hexstr2buf(hex.c_str(), &size);
  if (secret == nullptr) return false;
  const std::span<unsigned char> bytes{secret, static_cast<std::size_t>(size)};
  const auto* digest = SSL_CIPHER_get_handshake_digest(cipher);
  const std::size_t key_size = SSL_CIPHER_get_protocol_id(cipher) == 0x1301 ? 16 : 32;
  const bool ok = expand(digest, bytes, "key", std::span{out.key}.first(key_size)) &&
                  expand(digest, bytes, "iv", out.nonce);
  OPENSSL_clear_free(secret, bytes.size());
  for (std::size_t i = 0; i < out.number.size(); ++i)
    out.number[i] = static_cast<unsigned char>(records >> (56 - 8 * i));
  return ok;
}

/// `Info` is one of the kernel's structures, which differ in sizes alone.
template <class Info>
bool install(int socket, int direction, unsigned short type, const Direction& keys) {
  Info info{};
  info.info.version = TLS_1_3_VERSION;
  info.info.cipher_type = type;
  std::memcpy(info.key, keys.key.data(), sizeof info.key);
  constexpr std::size_t salt = sizeof(Direction::nonce) - sizeof info.iv;
  if constexpr (salt > 0) std::memcpy(info.salt, keys.nonce.data(), salt);
  std::memcpy(info.iv, keys.nonce.data() + salt, sizeof info.iv);
  std::memcpy(info.rec_seq, keys.number.data(), sizeof info.rec_seq);
  const int set = ::setsockopt(socket, SOL_TLS, direction, &info, sizeof info);
  OPENSSL_cleanse(&info, sizeof info);
  return set == 0;
}

bool install(int socket, int direction, const SSL_CIPHER* cipher, const Direction& keys) {
  switch (SSL_CIPHER_get_protocol_id(cipher)) {
    case 0x1301:
      return install<tls12_crypto_info_aes_gcm_128>(socket, direction, TLS_CIPHER_AES_GCM_128, keys);
    case 0x1302:
      return install<tls12_crypto_info_aes_gcm_256>(socket, direction, TLS_CIPHER_AES_GCM_256, keys);
    case 0x1303:
      return install<tls12_crypto_info_chacha20_poly1305>(socket, direction, TLS_CIPHER_CHACHA20_POLY1305,
                                                          keys);
    default:
      errno = EOPNOTSUPP;
      return false;
  }
}

/// TLS 1.3: whether all that the kernel has to be told is known.
bool may_go(const Session& session) {
  const auto& records = session.facts().records;
  return records.counting && !records.keys_changed && !records.client_secret.empty() &&
         !records.server_secret.empty() && SSL_version(session.raw()) == TLS1_3_VERSION;
}

/// TLS 1.2: OpenSSL has put its keys there by itself.
bool is_there(const SSL* ssl) {
  return SSL_version(ssl) == TLS1_2_VERSION && BIO_get_ktls_send(SSL_get_wbio(ssl)) != 0 &&
         BIO_get_ktls_recv(SSL_get_rbio(ssl)) != 0;
}

/// Headers are counted, and two messages tell when to begin and when all is lost.
void on_message(int sent, int, int type, const void* bytes, std::size_t size, SSL* ssl, void*) {
  auto& records = static_cast<Facts*>(SSL_get_app_data(ssl))->records;
  if (type == SSL3_RT_HEADER && records.counting) ++(sent == 1 ? records.sent : records.received);
  if (type != SSL3_RT_HANDSHAKE || size == 0) return;
  const auto message = *static_cast<const unsigned char*>(bytes);
  // The client's Finished is the last record under the keys of the handshake.
  const bool is_server = SSL_is_server(ssl) == 1;
  if (message == SSL3_MT_FINISHED && (sent == 1) != is_server) records.counting = true;
  // What every handshake of TLS 1.3 has and none of 1.2, before there are keys that OpenSSL would install.
  if (message == SSL3_MT_ENCRYPTED_EXTENSIONS) SSL_clear_options(ssl, SSL_OP_ENABLE_KTLS);
  if (message == SSL3_MT_KEY_UPDATE) records.keys_changed = true;
  // OpenSSL passes over these in one call for as long as any come, and here nothing bounds what it reads.
  constexpr int most_hello_requests = 8;
  if (message == SSL3_MT_HELLO_REQUEST && ++records.hello_requests > most_hello_requests)
    SSL_set0_rbio(ssl, BIO_new(BIO_s_null()));
}
}  // namespace

Records::~Records() {
  wipe(client_secret);
  wipe(server_secret);
}

bool attach_ktls(int socket) {
  if (is_absent) return false;
  constexpr std::string_view name = "tls";
  if (::setsockopt(socket, IPPROTO_TCP, TCP_ULP, name.data(), name.size()) == 0) return true;
  is_absent = errno == ENOENT || errno == ENOPROTOOPT;
  return false;
}

void forget_ktls_probe() { is_absent = false; }

void prepare_ktls(SSL* ssl) {
  SSL_set_msg_callback(ssl, on_message);
  SSL_set_options(ssl, SSL_OP_ENABLE_KTLS);
}

void note_secret(Records& records, std::string_view line) {
  const auto label = line.substr(0, line.find(' '));
  const auto secret = line.substr(line.rfind(' ') + 1);
  if (label == "CLIENT_TRAFFIC_SECRET_0") records.client_secret = secret;
  if (label == "SERVER_TRAFFIC_SECRET_0") records.server_secret = secret;
}

bool has_agreed(const Session& session) {
  if (SSL_version(session.raw()) != TLS1_3_VERSION) return false;  // a server may choose it in TLS 1.2, too
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(session.raw(), &protocol, &size);
  return std::string_view{reinterpret_cast<const char*>(protocol), size} == plumb_protocol;
}

Result<bool> into_kernel(const Session& session) {
  const bool is_at_rest = is_between_records(session.raw()) && SSL_get_shutdown(session.raw()) == 0;
  if (!session.facts().records.wanted || !is_at_rest) return false;
  if (is_there(session.raw())) return true;
  if (!may_go(session)) return false;
  const auto& records = session.facts().records;
  const bool server = SSL_is_server(session.raw()) == 1;
  const auto* cipher = SSL_get_current_cipher(session.raw());
  Direction ours, theirs;
  const bool derived =
      derive(cipher, server ? records.server_secret : records.client_secret, records.sent, ours) &&
      derive(cipher, server ? records.client_secret : records.server_secret, records.received, theirs);
  // Nothing has happened yet if the first key is refused: the module of this cipher may be missing.
  if (!derived || !install(session.borrow(), TLS_TX, cipher, ours)) return false;
  if (!install(session.borrow(), TLS_RX, cipher, theirs))
    return fail(Word::internal, "the kernel took one TLS key and not the other: " + ipc::errno_text(errno));
  return true;
}
}  // namespace tlsd
