#include "tests/e2e/tls_kit.hh"

#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <sys/stat.h>

#include <csignal>
#include <cstdio>

#include "tlsd/names.hh"

namespace kit {
namespace {
using File = std::unique_ptr<std::FILE, tlsd::Release<std::fclose>>;

Key new_key(int rsa_bits) {
  return Key{rsa_bits > 0 ? EVP_RSA_gen(static_cast<unsigned>(rsa_bits)) : EVP_EC_gen("P-256")};
}

void add_extension(X509* to, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, to, nullptr, nullptr, 0);
  auto* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr) give_up("X509V3_EXT_conf_nid: " + value);
  X509_add_ext(to, extension, -1);
  X509_EXTENSION_free(extension);
}

std::string alternative_names(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names)
    text += (text.empty() ? "" : ",") + (name.find(':') == name.npos ? "DNS:" + name : name);
  return text;
}

tlsd::Certificate make(const Wanted& wanted, EVP_PKEY* key, X509* issuer, EVP_PKEY* issuer_key, long serial,
                       bool authority) {
  tlsd::Certificate made{X509_new()};
  X509_set_version(made.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(made.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), wanted.from);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), wanted.until);
  auto* name = X509_get_subject_name(made.get());
  X509_NAME_add_entry_by_txt(name, "CN", wanted.common_name_type,
                             reinterpret_cast<const unsigned char*>(wanted.common_name.c_str()), -1, -1, 0);
  X509_set_pubkey(made.get(), key);
  auto* by = issuer != nullptr ? issuer : made.get();
  X509_set_issuer_name(made.get(), X509_get_subject_name(by));
  add_extension(made.get(), by, NID_basic_constraints, authority ? "critical,CA:TRUE" : "CA:FALSE");
  add_extension(made.get(), by, NID_subject_key_identifier, "hash");
  if (authority) add_extension(made.get(), by, NID_key_usage, "critical,keyCertSign,cRLSign");
  if (!authority && !wanted.names.empty())
    add_extension(made.get(), by, NID_subject_alt_name, alternative_names(wanted.names));
  if (!wanted.usage.empty()) add_extension(made.get(), by, NID_ext_key_usage, wanted.usage);
  if (X509_sign(made.get(), issuer_key, EVP_get_digestbyname(wanted.digest)) == 0) give_up("X509_sign");
  return made;
}

Issued write(const TempDir& dir, const std::string& file, X509* certificate, EVP_PKEY* key) {
  Issued issued{
      .certificate = dir / (file + ".pem"), .key = dir / (file + ".key"), .fingerprint = {}, .pin = {}};
  ::umask(077);
  PEM_write_X509(File{std::fopen(issued.certificate.c_str(), "w")}.get(), certificate);
  PEM_write_PrivateKey(File{std::fopen(issued.key.c_str(), "w")}.get(), key, nullptr, nullptr, 0, nullptr,
                       nullptr);
  issued.fingerprint = tlsd::fingerprint_of(certificate);
  const auto pin = tlsd::public_key_pin(certificate);
  std::string text(45, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), pin.data(), static_cast<int>(pin.size()));
  text.pop_back();
  issued.pin = "sha256//" + text;
  return issued;
}
}  // namespace

Authority::Authority(const TempDir& dir, std::string name)
    : dir_{dir}, name_{std::move(name)}, key_{new_key(0)} {
  const Wanted wanted{.common_name = name_};
  self_ = make(wanted, key_.get(), nullptr, key_.get(), 1, true);
  certificate_ = write(dir_, name_, self_.get(), key_.get()).certificate;
}

Issued Authority::issue(const std::string& file, const Wanted& wanted) {
  const auto key = new_key(wanted.rsa_bits);
  const auto made = make(wanted, key.get(), self_.get(), key_.get(), serial_++, false);
  return write(dir_, file, made.get(), key.get());
}

Issued self_signed(const TempDir& dir, const std::string& file, const Wanted& wanted) {
  const auto key = new_key(wanted.rsa_bits);
  const auto made = make(wanted, key.get(), nullptr, key.get(), 7, false);
  return write(dir, file, made.get(), key.get());
}

std::string Authority::revocations(const std::vector<std::string>& certificates, long until) {
  const std::unique_ptr<X509_CRL, tlsd::Release<X509_CRL_free>> list{X509_CRL_new()};
  X509_CRL_set_version(list.get(), 1);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(self_.get()));
  const std::unique_ptr<ASN1_TIME, tlsd::Release<ASN1_STRING_free>> now{X509_gmtime_adj(nullptr, -7200)};
  const std::unique_ptr<ASN1_TIME, tlsd::Release<ASN1_STRING_free>> later{X509_gmtime_adj(nullptr, until)};
  X509_CRL_set1_lastUpdate(list.get(), now.get());
  X509_CRL_set1_nextUpdate(list.get(), later.get());
  for (const auto& file : certificates) {
    const tlsd::Certificate certificate{
        PEM_read_X509(File{std::fopen(file.c_str(), "r")}.get(), nullptr, nullptr, nullptr)};
    auto* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.get()));
    X509_REVOKED_set_revocationDate(entry, now.get());
    X509_CRL_add0_revoked(list.get(), entry);
  }
  X509_CRL_sort(list.get());
  X509_CRL_sign(list.get(), key_.get(), EVP_sha256());
  const auto path = dir_ / (name_ + ".crl");
  PEM_write_X509_CRL(File{std::fopen(path.c_str(), "w")}.get(), list.get());
  return path;
}

tlsd::SslCtx server_context(const Issued& issued) {
  std::signal(SIGPIPE, SIG_IGN);  // OpenSSL writes without MSG_NOSIGNAL
  tlsd::SslCtx context{SSL_CTX_new(TLS_server_method())};
  SSL_CTX_set_security_level(context.get(), 0);  // our side refuses what is weak, not theirs
  if (SSL_CTX_use_certificate_chain_file(context.get(), issued.certificate.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context.get(), issued.key.c_str(), SSL_FILETYPE_PEM) != 1)
    give_up("server_context: " + tlsd::take_reason());
  return context;
}

tlsd::SslCtx client_context(const std::string& ca) {
  std::signal(SIGPIPE, SIG_IGN);
  tlsd::SslCtx context{SSL_CTX_new(TLS_client_method())};
  SSL_CTX_set_security_level(context.get(), 0);
  SSL_CTX_load_verify_locations(context.get(), ca.c_str(), nullptr);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return context;
}

TlsEnd::TlsEnd(SSL_CTX* context, int socket, bool server) : ssl{SSL_new(context)} {
  SSL_set_fd(ssl.get(), socket);
  if (server) {
    SSL_set_accept_state(ssl.get());
  } else {
    SSL_set_connect_state(ssl.get());
  }
}

bool TlsEnd::send(std::string_view bytes) {
  std::size_t sent = 0;
  return bytes.empty() || SSL_write_ex(ssl.get(), bytes.data(), bytes.size(), &sent) == 1;
}

std::string TlsEnd::receive_all(bool* clean) {
  std::string all;
  std::string buffer(65536, '\0');
  std::size_t got = 0;
  while (SSL_read_ex(ssl.get(), buffer.data(), buffer.size(), &got) == 1) all.append(buffer, 0, got);
  if (clean != nullptr) *clean = SSL_get_error(ssl.get(), 0) == SSL_ERROR_ZERO_RETURN;
  ERR_clear_error();
  return all;
}

std::string TlsEnd::receive_exactly(std::size_t size) {
  std::string all(size, '\0');
  std::size_t at = 0, got = 0;
  while (at < size && SSL_read_ex(ssl.get(), all.data() + at, size - at, &got) == 1) at += got;
  all.resize(at);
  return all;
}

TcpServer::Serve serve_tls(SSL_CTX* context, std::function<void(TlsEnd&)> serve) {
  std::signal(SIGPIPE, SIG_IGN);
  return [context, serve = std::move(serve)](int socket) {
    TlsEnd end{context, socket, true};
    if (end.shake_hands()) serve(end);
    ERR_clear_error();
  };
}

void echo_tls(TlsEnd& end) {
  std::string buffer(65536, '\0');
  std::size_t got = 0;
  while (SSL_read_ex(end.ssl.get(), buffer.data(), buffer.size(), &got) == 1)
    if (!end.send({buffer.data(), got})) return;
  if (SSL_get_error(end.ssl.get(), 0) == SSL_ERROR_ZERO_RETURN) end.close_notify();
  ERR_clear_error();
}

bool kernel_has_tls() {
  const auto listener = listen_tcp();
  const auto socket = connect_tcp(port_of(listener.borrow()));
  return ::setsockopt(socket.borrow(), IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
}

std::string profile(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string text = R"("settings":{"hop_timeout_ms":5000)";
  for (const auto& [name, value] : members) {
    const bool json = value.starts_with('[') || value.starts_with('{') || value == "true" ||
                      value == "false" ||
                      (!value.empty() && value.find_first_not_of("0123456789") == value.npos);
    text += ",\"" + name + "\":" + (json ? value : "\"" + value + "\"");
  }
  return text + "}";
}
}  // namespace kit
