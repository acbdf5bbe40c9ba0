// plumb ca: a certification authority in a directory, enough for mutual TLS between hosts of one owner.
//
//   DIR/ca.pem, ca.key     the authority            DIR/NAME.pem, NAME.key   what it issued
//   DIR/ca.crl             what it revoked       DIR/ca.lock              held by whoever changes these
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "ipc/address.hh"
#include "ipc/fd.hh"
#include "ipc/name.hh"
#include "plumb/output.hh"
#include "plumb/pki.hh"

namespace plumb {
namespace {
using ipc::Error;
using ipc::fail;
using ipc::Result;
using ipc::Word;
namespace fs = std::filesystem;

std::string directory_of(const Request& request) {
  return request.directory.empty() ? "plumb-ca" : request.directory;
}

/// A host name or address, and so a file name that leaves the directory by no trick.
Result<> check_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == ':';
  };
  if (!name.empty() && name.size() <= 253 && name.front() != '.' && name.front() != '-' && name != "ca" &&
      std::ranges::all_of(name, fits))
    return {};
  return fail(Word::bad_request, "\"" + ipc::printable(name, 64) +
                                     "\" is no host name in lower case, address or user name to issue for");
}

/// Whoever may write into the directory could put an authority of their own there.
Result<> check_private(const std::string& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0)
    return fail(Word::internal, directory + ": " + ipc::errno_text(errno));
  if (status.st_uid != 0 && status.st_uid != ::geteuid())
    return fail(Word::bad_request, directory + " belongs to uid " + std::to_string(status.st_uid) +
                                       "; take a directory of your own");
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(Word::bad_request, directory +
                                       " can be written by its group or by others; take another "
                                       "--dir, or chmod go-w it");
  return {};
}

/// Private if it is ours to make; one that exists keeps its mode.
Result<> make_directory(const std::string& directory) {
  std::error_code failed;
  const bool made = fs::create_directories(directory, failed);
  if (made && !failed) fs::permissions(directory, fs::perms::owner_all, failed);
  if (failed) return fail(Word::internal, "cannot make " + directory + ": " + failed.message());
  return check_private(directory);
}

/// From here on until it is closed we alone change what is in the directory. A file, which only its owner can
/// open, since whoever may read a directory could hold a lock of it.
Result<ipc::Fd> lock(const std::string& directory) {
  TRY(check_private(directory));
  const auto path = directory + "/ca.lock";
  ipc::Fd file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!file || ::flock(file.borrow(), LOCK_EX) != 0)
    return fail(Word::internal, "cannot lock " + path + ": " + ipc::errno_text(errno));
  return file;
}

Result<> check_absent(const std::string& file, const std::string& remedy) {
  if (!fs::exists(fs::symlink_status(file))) return {};
  return fail(Word::taken, file + " exists; " + remedy);
}

Result<std::string> init(const Request& request) {
  const auto directory = directory_of(request);
  TRY(make_directory(directory));
  const auto alone = TRY(lock(directory));
  // Any one of them: the key of an authority in use may be kept elsewhere.
  for (const auto* part : {"/ca.key", "/ca.pem", "/ca.crl"})
    TRY(check_absent(directory + part, "the directory holds an authority already, take another --dir"));
  const auto name = request.subject.empty() ? std::string("plumb ca") : request.subject;
  auto authority = TRY(pki::Authority::create(name, request.days));
  TRY(authority.save(directory));
  return "made the authority " + directory + "/ca.pem; ca.key stays here, ca.pem and ca.crl go to every host";
}

pki::Order order_from(const Request& request) {
  std::vector<std::string> names{request.subject};
  names.insert(names.end(), request.names.begin(), request.names.end());
  // Both purposes unless one was asked for: hosts both dial and listen.
  const bool both = !request.for_client && !request.for_server;
  return {.names = std::move(names),
          .server = both || request.for_server,
          .client = both || request.for_client,
          .days = request.days};
}

std::string to_be_copied(const std::string& directory) {
  return "; copy " + directory + "/ca.crl to the hosts whose profiles name it in `crl`";
}

Result<std::string> issue(const Request& request) {
  const auto directory = directory_of(request);
  TRY(check_name(request.subject));
  for (const auto& name : request.names) TRY(check_name(name));
  const auto file = directory + "/" + request.subject;
  auto authority = TRY(pki::Authority::load(directory));
  const auto alone = TRY(lock(directory));
  if (!request.force) {
    TRY(check_absent(file + ".pem", "--force replaces it and revokes what it holds"));
    TRY(check_absent(file + ".key",
                     "--force replaces it, but cannot revoke its certificate, which is not here"));
  }
  // Its serial is nowhere else: once replaced it could never be revoked.
  const bool replaces = authority.has_issued(file + ".pem");
  if (replaces) TRY(authority.revoke(file + ".pem"));
  TRY(authority.issue(order_from(request), file));
  const auto done = "issued " + file + ".pem with its key in " + file + ".key (give both to that host alone)";
  return replaces ? done + ", and revoked the one that it replaces" + to_be_copied(directory) : done;
}

Result<std::string> revoke(const Request& request) {
  const auto directory = directory_of(request);
  TRY(check_name(request.subject));
  auto authority = TRY(pki::Authority::load(directory));
  const auto alone = TRY(lock(directory));
  TRY(authority.revoke(directory + "/" + request.subject + ".pem"));
  return "revoked " + directory + "/" + request.subject + ".pem" + to_be_copied(directory);
}

Result<std::string> renew(const Request& request) {
  const auto directory = directory_of(request);
  auto authority = TRY(pki::Authority::load(directory));
  const auto alone = TRY(lock(directory));
  TRY(authority.renew());
  return "renewed the revocation list for a year" + to_be_copied(directory);
}

/// What tlsd(8) would not read back from a psk_file as it was given here; blanks at an end nobody sees.
Result<> check_identity(const std::string& identity) {
  constexpr std::size_t longest = 128;
  const auto wrong = [&](const char* why) {
    return fail(Word::bad_request, "the identity \"" + ipc::printable(identity, 64) + "\" " + why);
  };
  if (identity.size() > longest) return wrong("has more than 128 bytes");
  if (ipc::printable(identity) != identity) return wrong("has bytes that are not printable ASCII");
  if (identity.find(':') != identity.npos) return wrong("has a ':', behind which a psk_file has the key");
  if (identity.starts_with('#')) return wrong("begins with '#', as comments of a psk_file do");
  if (identity.starts_with(' ') || identity.ends_with(' ')) return wrong("has blanks at an end");
  return {};
}

Result<std::string> carry_out(const Request& request) {
  if (request.action == "init") return init(request);
  if (request.action == "revoke") return request.subject.empty() ? renew(request) : revoke(request);
  if (request.subject.empty()) return fail(Word::bad_request, "ca issue needs a NAME");
  return issue(request);
}
}  // namespace

int run_ca(const Request& request) {
  auto done = carry_out(request);
  if (!done) return fail_with(request, done.error());
  std::string text;
  ipc::JsonWriter{text}.object().add("done", *done).add("directory", directory_of(request)).end();
  put_line(request.json ? text : *done);
  return 0;
}

/// The only command that prints a secret: printing it is what it is for.
int run_psk(const Request& request) {
  if (auto legal = check_identity(request.subject); !legal) return fail_with(request, legal.error());
  auto secret = pki::random_hex(32);
  if (!secret) return fail_with(request, secret.error());
  const auto identity = request.subject.empty() ? std::string{} : request.subject + ":";
  std::string text;
  ipc::JsonWriter{text}.object().add_if("identity", request.subject).add("secret", *secret).end();
  put_line(request.json ? text : identity + *secret);
  return 0;
}
}  // namespace plumb
