// What a profile comes to in OpenSSL: certificates, trust, keys, loaded once and again when a file changes.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ipc/error.hh"
#include "ipc/fd.hh"
#include "ipc/json.hh"
#include "tlsd/openssl.hh"
#include "tlsd/psk.hh"
#include "tlsd/sessions.hh"
#include "tlsd/settings.hh"
#include "tlsd/trust.hh"

namespace tlsd {

/// A file and what it looked like when it was read.
struct Stamp {
  std::string path;
  std::int64_t changed = 0;  ///< nanoseconds; 0: it was not there
  std::int64_t size = 0;
  std::uint64_t inode = 0;
  bool operator==(const Stamp&) const = default;
};
Stamp stamp_of(const std::string& path);

class Context {
 public:
  /// AUTH names the file that cannot be used and why. Warnings (weak keys, a key file that others may read,
  /// a key log) go to `log`.
  static ipc::Result<std::shared_ptr<Context>> make(const Settings& settings, Role role, const Log& log);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  SSL_CTX* raw() const { return ctx_.get(); }
  Role role() const { return role_; }
  const Settings& settings() const { return settings_; }
  /// What is asked of the peer's certificate. `verify` of a profile is of dials: whom a listener believes
  /// without a chain could bear any name.
  Verify verify() const { return role_ == Role::server ? Verify::full : settings_.verify; }
  const PskTable& psks() const { return psks_; }
  SessionStore& sessions() { return sessions_; }
  /// Of one that begins now (seconds since the epoch): no revocation list that was looked at has expired
  /// then.
  std::int64_t session_end() const;
  /// Tickets of this context are good wherever a context was made of the same `profile` and files, and is
  /// told the same secret.
  void share_tickets(std::string_view secret, std::string profile);
  /// A file it was made from has changed since, or a revocation list of it has expired: no session that it
  /// knows may go on.
  bool is_stale() const;
  /// Where session keys are written for debugging; -1: nowhere.
  int keylog() const { return keylog_.borrow(); }
  /// The ALPN protocols in the wire's form.
  const std::string& alpn() const { return alpn_; }

 private:
  Context(const Settings& settings, Role role);
  ipc::Result<> load(const Log& log);
  ipc::Result<> load_identity(const Log& log);
  ipc::Result<> load_trust(const Log& log);
  ipc::Result<> load_psks(const Log& log);
  ipc::Result<> set_protocol();
  ipc::Result<> set_names(int (*apply)(SSL_CTX*, const char*), const std::string& words,
                          std::string_view key);
  ipc::Result<> open_keylog(const Log& log);
  void set_sessions();
  void watch(const std::string& path) { stamps_.push_back(stamp_of(path)); }
  void watch_entries(const std::string& directory);

  Settings settings_;
  Role role_;
  SslCtx ctx_;
  PskTable psks_;
  SessionStore sessions_;
  ipc::Fd keylog_;
  std::string alpn_;
  std::vector<Stamp> stamps_;
  std::int64_t lists_end_ = 0;  ///< when the first of the revocation lists expires; 0: none will
};

/// The contexts in use, by role and the profile's text.
class Contexts {
 public:
  /// The context for these settings, loaded if it is new; looks for changed files at most once a second
  /// (`now`: the loop's milliseconds). A changed file that cannot be used is told to `log`, and what was
  /// loaded before goes on.
  ipc::Result<std::shared_ptr<Context>> get(ipc::JsonView settings, Role role, std::uint64_t now,
                                            const Log& log);
  /// The configuration was loaded anew: what nobody asks for any more shall go.
  void forget() { entries_.clear(); }
  /// What this process has in common with the other workers; empty: nothing, there are none.
  void share(std::string_view secret) {
    wipe(secret_);
    secret_ = secret;
  }

 private:
  struct Entry {
    std::shared_ptr<Context> context;
    std::uint64_t looked = 0;
    std::uint64_t made = 0;
  };
  ipc::Result<std::shared_ptr<Context>> make(const std::string& key, const Settings& settings, Role role,
                                             const Log& log) const;
  void refresh(const std::string& key, Entry& entry, std::uint64_t now, const Log& log);
  std::string secret_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace tlsd
