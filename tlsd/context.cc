#include "tlsd/context.hh"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ipc/name.hh"
#include "tlsd/callbacks.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Result;
using ipc::Word;

constexpr std::uint64_t look_every = 1000;                  // milliseconds between looks at files
constexpr std::uint64_t fresh_every = 12ULL * 3600 * 1000;  // ticket keys and sessions live no longer
// No finite fields: a peer may choose one in which a step takes a tenth of a second (RFC 9325, section 4.1).
constexpr const char* certificate_ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* usual_groups = "X25519:P-256:P-384";

std::unexpected<ipc::Error> unusable(std::string_view what, const std::string& path) {
  return fail(Word::auth, "cannot use the " + std::string(what) + " " + path + ": " + take_reason());
}

/// Why a file cannot be read comes from the kernel, and says more than OpenSSL does.
Result<> check_readable(std::string_view what, const std::string& path) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  return fail(Word::auth,
              "cannot read the " + std::string(what) + " " + path + ": " + ipc::errno_text(errno));
}

void warn_of_readers(std::string_view what, const std::string& path, const Log& log) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH) != 0)
    log("warn", "the " + std::string(what) + " " + path + " can be read by everybody: chmod 600 it");
}
}  // namespace

Stamp stamp_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return {.path = path};
  return {.path = path,
          .changed = status.st_mtim.tv_sec * 1'000'000'000LL + status.st_mtim.tv_nsec,
          .size = status.st_size,
          .inode = status.st_ino};
}

Context::Context(const Settings& settings, Role role) : settings_{settings}, role_{role} {}

Result<std::shared_ptr<Context>> Context::make(const Settings& settings, Role role, const Log& log) {
  std::shared_ptr<Context> context{new Context{settings, role}};
  ERR_clear_error();
  TRY(context->load(log));
  return context;
}

std::int64_t Context::session_end() const {
  const auto lifetime = std::chrono::duration_cast<std::chrono::seconds>(settings_.session_lifetime).count();
  const std::int64_t end = std::time(nullptr) + lifetime;
  return lists_end_ == 0 ? end : std::min(end, lists_end_);
}

bool Context::is_stale() const {
  if (lists_end_ != 0 && std::time(nullptr) >= lists_end_) return true;
  return std::ranges::any_of(stamps_, [](const Stamp& stamp) { return stamp_of(stamp.path) != stamp; });
}

Result<> Context::load(const Log& log) {
  ctx_.reset(SSL_CTX_new(role_ == Role::client ? TLS_client_method() : TLS_server_method()));
  if (!ctx_) return fail(Word::internal, "SSL_CTX_new: " + take_reason());
  TRY(load_psks(log));
  TRY(set_protocol());
  TRY(load_identity(log));
  TRY(load_trust(log));
  TRY(open_keylog(log));
  set_sessions();
  if (verify() == Verify::none)
    log("warn", "a tls profile has verify = \"none\": whoever answers is believed to be the far side");
  install_callbacks(*this);
  return {};
}

Result<> Context::set_names(int (*apply)(SSL_CTX*, const char*), const std::string& words,
                            std::string_view key) {
  if (words.empty() || apply(ctx_.get(), words.c_str()) == 1) return {};
  return fail(Word::bad_request, "tls profile: OpenSSL takes nothing from " + std::string(key) + " = \"" +
                                     ipc::printable(words) + "\"");
}

Result<> Context::set_protocol() {
  auto* ctx = ctx_.get();
  SSL_CTX_set_security_level(ctx, 2);  // whatever openssl.cnf says: no RSA under 2048 bits, no SHA-1
  SSL_CTX_set_min_proto_version(ctx, settings_.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(ctx, settings_.tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
  SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  const bool keys = role_ == Role::server && !psks_.empty();
  const std::string usual = std::string(certificate_ciphers) + (keys ? std::string(":") + psk_ciphers : "");
  TRY(set_names(SSL_CTX_set_cipher_list, settings_.ciphers.empty() ? usual : settings_.ciphers, "ciphers"));
  // SHA-256 first: its key schedule costs half of SHA-384's, AES-128 is as good as AES-256, and pre-shared
  // keys go with nothing else: with another suite a certificate would be used instead.
  const char* suites = keys ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
                            : "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
  TRY(set_names(SSL_CTX_set_ciphersuites, settings_.ciphersuites.empty() ? suites : settings_.ciphersuites,
                "ciphersuites"));
  TRY(set_names(
      [](SSL_CTX* to, const char* list) { return static_cast<int>(SSL_CTX_set1_groups_list(to, list)); },
      settings_.groups.empty() ? usual_groups : settings_.groups, "groups"));
  for (const auto& protocol : settings_.alpn) alpn_ += static_cast<char>(protocol.size()) + protocol;
  if (role_ == Role::client && !alpn_.empty())
    SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(alpn_.data()),
                            static_cast<unsigned>(alpn_.size()));
  return {};
}

Result<> Context::load_identity(const Log& log) {
  if (settings_.certificate.empty()) {
    if (role_ == Role::client || !psks_.empty()) return {};
    return fail(
        Word::bad_request,
        "a tls listener needs a certificate and private_key, or a psk_file, in its [tls.NAME] profile");
  }
  watch(settings_.certificate);
  watch(settings_.private_key);
  TRY(check_readable("certificate", settings_.certificate));
  TRY(check_readable("private key", settings_.private_key));
  warn_of_readers("private key", settings_.private_key, log);
  if (SSL_CTX_use_certificate_chain_file(ctx_.get(), settings_.certificate.c_str()) != 1)
    return unusable("certificate", settings_.certificate);
  if (SSL_CTX_use_PrivateKey_file(ctx_.get(), settings_.private_key.c_str(), SSL_FILETYPE_PEM) != 1)
    return unusable("private key", settings_.private_key);
  return {};
}

Result<> Context::load_trust(const Log& log) {
  if (verify() != Verify::full) return {};
  if (role_ == Role::server && settings_.client_auth == ClientAuth::none) return {};
  const auto& anchors = role_ == Role::client ? settings_.ca : settings_.client_ca;
  if (role_ == Role::server && anchors.empty())
    return fail(Word::bad_request, "tls profile: client_auth needs client_ca");
  for (const auto& path : anchors.empty() ? system_trust_files() : anchors) watch(path);
  for (const auto& path : anchors) watch_entries(path);
  for (const auto& path : settings_.crl) watch(path);
  auto store = TRY(make_trust(anchors, settings_.crl, log));
  lists_end_ = next_expiry(store.get());
  SSL_CTX_set1_cert_store(ctx_.get(), store.get());
  if (role_ == Role::server) SSL_CTX_set_client_CA_list(ctx_.get(), names_of(store.get()).release());
  return {};
}

/// A file that is written anew in a directory does not change that.
void Context::watch_entries(const std::string& directory) {
  std::error_code failed;
  for (std::filesystem::directory_iterator entry{directory, failed}, end; !failed && entry != end;
       entry.increment(failed))
    watch(entry->path());
}

Result<> Context::load_psks(const Log& log) {
  if (settings_.psk_file.empty()) return {};
  watch(settings_.psk_file);
  TRY(check_readable("psk_file", settings_.psk_file));
  warn_of_readers("psk_file", settings_.psk_file, log);
  std::ifstream file{settings_.psk_file};
  std::ostringstream text;
  text << file.rdbuf();
  psks_ = TRY(PskTable::parse(std::move(text).str(), settings_.psk_file));
  for (const auto& identity : psks_.weak())
    log("warn", "the pre-shared key of " + identity + " in " + settings_.psk_file +
                    " looks easy to guess; `plumb psk new` draws a strong one");
  return {};
}

Result<> Context::open_keylog(const Log& log) {
  if (settings_.keylog.empty()) return {};
  const auto& path = settings_.keylog;
  keylog_ = ipc::Fd{::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!keylog_) return fail(Word::internal, "cannot open the keylog " + path + ": " + ipc::errno_text(errno));
  log("warn", "TLS SESSION KEYS ARE WRITTEN TO " + path +
                  ": whoever reads that file can read the traffic; remove keylog from the profile when done");
  return {};
}

void Context::set_sessions() {
  auto* ctx = ctx_.get();
  const auto lifetime = std::chrono::duration_cast<std::chrono::seconds>(settings_.session_lifetime).count();
  SSL_CTX_set_timeout(ctx, static_cast<long>(lifetime));
  if (role_ == Role::client) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    return;
  }
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);  // tickets only: nothing to keep here
  constexpr std::string_view name = "plumberd";
  SSL_CTX_set_session_id_context(ctx, reinterpret_cast<const unsigned char*>(name.data()), name.size());
  // A resumed session would no longer say which key it began with.
  const bool tickets = settings_.session_cache && psks_.empty();
  SSL_CTX_set_num_tickets(ctx, tickets ? 1 : 0);
  if (!tickets) SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

/// One profile's tickets must not pass for another's, which may ask more of its clients; nor may those that
/// were given before a file changed.
void Context::share_tickets(std::string_view secret, std::string profile) {
  constexpr std::size_t size = 80;  // a name and two keys
  for (const auto& stamp : stamps_)
    profile += "\n" + stamp.path + " " + std::to_string(stamp.changed) + " " + std::to_string(stamp.size) +
               " " + std::to_string(stamp.inode);
  profile += "\n" + std::to_string(lists_end_);
  std::array<unsigned char, std::size_t{3} * 32> keys{};
  for (std::size_t i = 0; i < 3; ++i) {
    const auto text = std::to_string(i) + profile;
    HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), keys.data() + i * 32, nullptr);
  }
  SSL_CTX_set_tlsext_ticket_keys(ctx_.get(), keys.data(), size);
  OPENSSL_cleanse(keys.data(), keys.size());
}

Result<std::shared_ptr<Context>> Contexts::make(const std::string& key, const Settings& settings, Role role,
                                                const Log& log) const {
  auto context = TRY(Context::make(settings, role, log));
  if (role == Role::server && !secret_.empty()) context->share_tickets(secret_, key);
  return context;
}

Result<std::shared_ptr<Context>> Contexts::get(ipc::JsonView settings, Role role, std::uint64_t now,
                                               const Log& log) {
  auto key = (role == Role::client ? "c" : "s") + (settings.exists() ? settings.text() : "{}");
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    const auto parsed = TRY(parse_settings(settings));
    auto context = TRY(make(key, parsed, role, log));
    found = entries_.emplace(std::move(key), Entry{std::move(context), now, now}).first;
  }
  refresh(found->first, found->second, now, log);
  return found->second.context;
}

void Contexts::refresh(const std::string& key, Entry& entry, std::uint64_t now, const Log& log) {
  if (now - entry.looked < look_every) return;
  entry.looked = now;
  const bool aged = now - entry.made > fresh_every;
  if (!aged && !entry.context->is_stale()) return;
  auto fresh = make(key, entry.context->settings(), entry.context->role(), log);
  if (!fresh) return log("error", "a changed file is not used: " + fresh.error().text);
  if (!aged) log("info", "changed certificates, keys or lists were loaded");
  entry.context = std::move(*fresh);
  entry.made = now;
}
}  // namespace tlsd
