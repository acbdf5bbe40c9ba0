#include "tlsd/trust.hh"

#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>

#include "tlsd/names.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Result;
using ipc::Word;

inline void free_objects(STACK_OF(X509_INFO) * objects) { sk_X509_INFO_pop_free(objects, X509_INFO_free); }
using Objects = std::unique_ptr<STACK_OF(X509_INFO), Release<free_objects>>;

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::unexpected<ipc::Error> unreadable(std::string_view what, const std::string& path) {
  return fail(Word::auth,
              "cannot read the " + std::string(what) + " " + path + ": " + ipc::errno_text(errno));
}

Result<> load_anchors(X509_STORE* store, const std::string& path) {
  if (::access(path.c_str(), R_OK) != 0) return unreadable("ca", path);
  ERR_clear_error();
  const int loaded = is_directory(path) ? X509_STORE_load_path(store, path.c_str())
                                        : X509_STORE_load_file(store, path.c_str());
  if (loaded == 1) return {};
  return fail(Word::auth, "cannot use the ca " + path + ": " + take_reason());
}

/// Once a list has expired nobody passes any more: there is a week to renew it.
void warn_of_age(const X509_CRL* list, const std::string& path, const Log& log) {
  constexpr long week = 7L * 24 * 3600;
  const auto* until = X509_CRL_get0_nextUpdate(list);
  std::time_t soon = std::time(nullptr) + week;
  if (until == nullptr || X509_cmp_time(until, &soon) > 0) return;
  const bool over = X509_cmp_current_time(until) <= 0;
  log("warn", "the revocation list " + path + (over ? " has expired on " : " expires on ") + date_of(until) +
                  (over ? ": nobody is believed until" : ": after that nobody is believed until") +
                  " it is renewed");
}

/// OpenSSL's own loader would take a certificate that lies among the lists for one that is trusted.
Result<> load_lists(X509_STORE* store, const std::string& path, const Log& log) {
  const Bio file{BIO_new_file(path.c_str(), "r")};
  if (!file) return unreadable("crl", path);
  const Objects objects{PEM_X509_INFO_read_bio(file.get(), nullptr, nullptr, nullptr)};
  const auto refuse = [&](const std::string& why) {
    return fail(Word::auth, "cannot use the crl " + path + ": " + why);
  };
  if (!objects) return refuse(take_reason());
  int lists = 0;
  for (int i = 0; i < sk_X509_INFO_num(objects.get()); ++i) {
    const auto* object = sk_X509_INFO_value(objects.get(), i);
    if (object->x509 != nullptr) return refuse("it holds a certificate, and may hold revocation lists only");
    if (object->crl == nullptr) continue;
    if (X509_STORE_add_crl(store, object->crl) != 1) return refuse(take_reason());
    warn_of_age(object->crl, path, log);
    ++lists;
  }
  return lists > 0 ? Result<>{} : refuse("it holds no revocation list in PEM");
}

const char* path_of(const char* variable, const char* otherwise) {
  const char* set = ::secure_getenv(variable);
  return set != nullptr ? set : otherwise;
}
}  // namespace

Result<Store> make_trust(const std::vector<std::string>& anchors, const std::vector<std::string>& crls,
                         const Log& log) {
  Store store{X509_STORE_new()};
  if (!store) return fail(Word::internal, "X509_STORE_new: " + take_reason());
  for (const auto& path : anchors) TRY(load_anchors(store.get(), path));
  if (anchors.empty() && X509_STORE_set_default_paths(store.get()) != 1)
    return fail(Word::auth, "cannot load the system's trusted authorities: " + take_reason());
  ERR_clear_error();  // a default file that does not exist
  for (const auto& path : crls) TRY(load_lists(store.get(), path, log));
  // Whoever is named in `ca` is believed, be it a root or not.
  unsigned long flags = anchors.empty() ? 0 : X509_V_FLAG_PARTIAL_CHAIN;
  if (!crls.empty()) flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
  X509_STORE_set_flags(store.get(), flags);
  return store;
}

std::vector<std::string> system_trust_files() {
  return {path_of(X509_get_default_cert_file_env(), X509_get_default_cert_file()),
          path_of(X509_get_default_cert_dir_env(), X509_get_default_cert_dir())};
}

std::int64_t next_expiry(X509_STORE* store) {
  std::int64_t next = 0;
  auto* objects = X509_STORE_get0_objects(store);
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    const auto* list = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));
    const auto* until = list != nullptr ? X509_CRL_get0_nextUpdate(list) : nullptr;
    std::tm parts{};
    if (until == nullptr || ASN1_TIME_to_tm(until, &parts) != 1) continue;
    const std::int64_t end = ::timegm(&parts);
    if (end > std::time(nullptr) && (next == 0 || end < next)) next = end;
  }
  return next;
}

Names names_of(X509_STORE* store) {
  Names names{sk_X509_NAME_new_null()};
  auto* objects = X509_STORE_get0_objects(store);
  for (int i = 0; i < sk_X509_OBJECT_num(objects); ++i) {
    const auto* certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
    if (certificate == nullptr) continue;
    auto* name = X509_NAME_dup(X509_get_subject_name(certificate));
    if (name != nullptr) sk_X509_NAME_push(names.get(), name);
  }
  return names;
}
}  // namespace tlsd
