#include "plumb/pki.hh"

#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "ipc/address.hh"
#include "ipc/fd.hh"

namespace plumb::pki {
namespace {
using ipc::fail;
using ipc::Result;
using ipc::Word;
using Bio = std::unique_ptr<BIO, Release<BIO_free_all>>;
using Number = std::unique_ptr<BIGNUM, Release<BN_free>>;
using Time = std::unique_ptr<ASN1_TIME, Release<ASN1_STRING_free>>;

constexpr int authority_days = 3650;
constexpr int certificate_days = 825;  // what clients at large accept
constexpr int list_days = 365;
constexpr long a_day = 24L * 3600;
constexpr long backdated = 3600;  // clocks of hosts differ

std::unexpected<ipc::Error> broken(const std::string& what) {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  ERR_clear_error();
  return fail(Word::internal, what + (reason != nullptr ? std::string(": ") + reason : ""));
}

/// Writes a file anew, whole or not at all: somebody may be reading the old one.
Result<> write(const std::string& path, mode_t mode, BIO* content) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(content, &data);
  const auto fresh = path + ".new";
  ::unlink(fresh.c_str());
  const ipc::Fd file{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)};
  if (!file || ::write(file.borrow(), data, static_cast<std::size_t>(size)) != size ||
      ::fsync(file.borrow()) != 0 || ::rename(fresh.c_str(), path.c_str()) != 0)
    return fail(Word::internal, "cannot write " + path + ": " + ipc::errno_text(errno));
  return {};
}

Bio memory() { return Bio{BIO_new(BIO_s_secmem())}; }  // wiped when it is freed

Result<> write_key(const std::string& path, EVP_PKEY* key) {
  const auto bio = memory();
  if (PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return broken("cannot encode a key");
  return write(path, 0600, bio.get());
}

Result<> write_certificate(const std::string& path, X509* certificate) {
  const auto bio = memory();
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return broken("cannot encode a certificate");
  return write(path, 0644, bio.get());
}

Result<Bio> open(const std::string& path) {
  Bio bio{BIO_new_file(path.c_str(), "r")};
  if (bio) return bio;
  ERR_clear_error();
  return fail(Word::unknown_service, "cannot read " + path + ": " + ipc::errno_text(errno));
}

Result<Certificate> read_certificate(const std::string& path) {
  const auto bio = TRY(open(path));
  Certificate certificate{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)};
  if (!certificate) return broken(path + " holds no certificate");
  return certificate;
}

void set_name(X509* certificate, const std::string& common_name) {
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8, text, -1, -1, 0);
}

bool set_serial(X509* certificate) {
  const Number number{BN_new()};
  constexpr int bits = 127;  // unguessable and positive (CA/Browser Forum, 7.1)
  return number && BN_rand(number.get(), bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool extend(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  auto* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
  if (extension == nullptr) return false;
  const bool added = X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

/// The parts that an authority and what it issues have in common.
bool begin(X509* certificate, const std::string& name, int days, EVP_PKEY* key) {
  set_name(certificate, name);
  return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -backdated) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), a_day * days) != nullptr &&
         X509_set_pubkey(certificate, key) == 1;
}

std::string alternative_names(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names)
    text += (text.empty() ? "" : ",") + std::string(ipc::parse_address(name) ? "IP:" : "DNS:") + name;
  return text;
}

std::string purposes(const Order& order) {
  std::string text = order.server ? "serverAuth" : "";
  if (order.client) text += text.empty() ? "clientAuth" : ",clientAuth";
  return text;
}
}  // namespace

Authority::Authority(std::string directory, Key key, Certificate certificate)
    : directory_{std::move(directory)}, key_{std::move(key)}, certificate_{std::move(certificate)} {}

Result<Authority> Authority::create(const std::string& name, int days) {
  Key key{EVP_EC_gen("P-256")};
  Certificate made{X509_new()};
  if (!key || !made) return broken("cannot make a key");
  auto* raw = made.get();
  const bool ok = begin(raw, name, days > 0 ? days : authority_days, key.get()) &&
                  X509_set_issuer_name(raw, X509_get_subject_name(raw)) == 1 &&
                  extend(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                  extend(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                  extend(raw, raw, NID_subject_key_identifier, "hash") &&
                  X509_sign(raw, key.get(), EVP_sha256()) > 0;
  if (!ok) return broken("cannot make a certificate");
  return Authority{{}, std::move(key), std::move(made)};
}

Result<Authority> Authority::load(const std::string& directory) {
  auto certificate = TRY(read_certificate(directory + "/ca.pem"));
  const auto bio = TRY(open(directory + "/ca.key"));
  Key key{PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr)};
  if (!key || X509_check_private_key(certificate.get(), key.get()) != 1)
    return broken(directory + "/ca.key is not the key of ca.pem");
  return Authority{directory, std::move(key), std::move(certificate)};
}

Result<> Authority::save(const std::string& directory) {
  directory_ = directory;
  TRY(write_key(directory + "/ca.key", key_.get()));
  TRY(write_certificate(directory + "/ca.pem", certificate_.get()));
  Crl empty{X509_CRL_new()};
  X509_CRL_set_version(empty.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(empty.get(), X509_get_subject_name(certificate_.get()));
  return write_list(std::move(empty));
}

Result<> Authority::issue(const Order& order, const std::string& file) {
  const Key key{EVP_EC_gen("P-256")};
  const Certificate made{X509_new()};
  if (!key || !made) return broken("cannot make a key");
  auto *raw = made.get(), *issuer = certificate_.get();
  const bool ok =
      begin(raw, order.names.front(), order.days > 0 ? order.days : certificate_days, key.get()) &&
      X509_set_issuer_name(raw, X509_get_subject_name(issuer)) == 1 &&
      extend(raw, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
      extend(raw, issuer, NID_key_usage, "critical,digitalSignature") &&
      extend(raw, issuer, NID_ext_key_usage, purposes(order).c_str()) &&
      extend(raw, issuer, NID_subject_alt_name, alternative_names(order.names).c_str()) &&
      extend(raw, issuer, NID_subject_key_identifier, "hash") &&
      extend(raw, issuer, NID_authority_key_identifier, "keyid") &&
      X509_sign(raw, key_.get(), EVP_sha256()) > 0;
  if (!ok) return broken("cannot make a certificate for " + order.names.front());
  TRY(write_key(file + ".key", key.get()));
  return write_certificate(file + ".pem", raw);
}

Result<> Authority::revoke(const std::string& certificate_file) {
  const auto revoked = TRY(read_certificate(certificate_file));
  if (X509_check_issued(certificate_.get(), revoked.get()) != X509_V_OK)
    return fail(Word::bad_request, certificate_file + " was not issued by " + directory_ + "/ca.pem");
  auto list = TRY(read_list());
  X509_REVOKED* known = nullptr;
  if (X509_CRL_get0_by_cert(list.get(), &known, revoked.get()) == 0) {
    const Time now{X509_gmtime_adj(nullptr, -backdated)};
    auto* entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(revoked.get()));
    X509_REVOKED_set_revocationDate(entry, now.get());
    X509_CRL_add0_revoked(list.get(), entry);
  }
  return write_list(std::move(list));
}

Result<> Authority::renew() { return write_list(TRY(read_list())); }

bool Authority::has_issued(const std::string& certificate_file) const {
  const auto certificate = read_certificate(certificate_file);
  return certificate && X509_check_issued(certificate_.get(), certificate->get()) == X509_V_OK;
}

Result<Crl> Authority::read_list() const {
  const auto path = directory_ + "/ca.crl";
  const auto bio = TRY(open(path));
  Crl list{PEM_read_bio_X509_CRL(bio.get(), nullptr, nullptr, nullptr)};
  if (!list) return broken(path + " holds no revocation list");
  return list;
}

/// Dated and signed anew.
Result<> Authority::write_list(Crl list) {
  const Time now{X509_gmtime_adj(nullptr, -backdated)}, next{X509_gmtime_adj(nullptr, a_day * list_days)};
  X509_CRL_set1_lastUpdate(list.get(), now.get());
  X509_CRL_set1_nextUpdate(list.get(), next.get());
  X509_CRL_sort(list.get());
  const auto bio = memory();
  if (X509_CRL_sign(list.get(), key_.get(), EVP_sha256()) <= 0 ||
      PEM_write_bio_X509_CRL(bio.get(), list.get()) != 1)
    return broken("cannot sign the revocation list");
  return write(directory_ + "/ca.crl", 0644, bio.get());
}

Result<std::string> random_hex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(raw.data()), static_cast<int>(bytes)) != 1)
    return broken("no random bytes");
  std::string text;
  constexpr const char* digits = "0123456789abcdef";
  for (const char c : raw) {
    const auto byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}
}  // namespace plumb::pki
