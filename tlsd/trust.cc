#include "tlsd/trust.hh"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Result;
using ipc::Word;

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Result<> load(X509_STORE* store, const std::string& path, std::string_view what) {
  if (::access(path.c_str(), R_OK) != 0)
    return fail(Word::auth,
                "cannot read the " + std::string(what) + " " + path + ": " + ipc::errno_text(errno));
  ERR_clear_error();
  const int loaded = is_directory(path) ? X509_STORE_load_path(store, path.c_str())
                                        : X509_STORE_load_file(store, path.c_str());
  if (loaded == 1) return {};
  return fail(Word::auth, "cannot use the " + std::string(what) + " " + path + ": " + take_reason());
}

const char* path_of(const char* variable, const char* otherwise) {
  const char* set = ::secure_getenv(variable);
  return set != nullptr ? set : otherwise;
}
}  // namespace

Result<Store> make_trust(const std::vector<std::string>& anchors, const std::vector<std::string>& crls) {
  Store store{X509_STORE_new()};
  if (!store) return fail(Word::internal, "X509_STORE_new: " + take_reason());
  for (const auto& path : anchors) TRY(load(store.get(), path, "ca"));
  if (anchors.empty() && X509_STORE_set_default_paths(store.get()) != 1)
    return fail(Word::auth, "cannot load the system's trusted authorities: " + take_reason());
  ERR_clear_error();  // a default file that does not exist
  for (const auto& path : crls) TRY(load(store.get(), path, "crl"));
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
