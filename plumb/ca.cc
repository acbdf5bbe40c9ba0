// plumb ca: a certification authority in a directory, enough for mutual TLS between hosts of one owner.
//
//   DIR/ca.pem, ca.key     the authority            DIR/NAME.pem, NAME.key   what it issued
//   DIR/ca.crl             what it revoked
#include <algorithm>
#include <filesystem>

#include "ipc/address.hh"
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

Result<> make_directory(const std::string& directory) {
  std::error_code failed;
  fs::create_directories(directory, failed);
  if (!failed) fs::permissions(directory, fs::perms::owner_all, failed);
  if (failed) return fail(Word::internal, "cannot make " + directory + ": " + failed.message());
  return {};
}

Result<std::string> init(const Request& request) {
  const auto directory = directory_of(request);
  if (fs::exists(directory + "/ca.key"))
    return fail(Word::taken, directory + " holds an authority already; take another --dir");
  TRY(make_directory(directory));
  const auto name = request.subject.empty() ? std::string("plumb ca") : request.subject;
  auto authority = TRY(pki::Authority::create(name, request.days));
  TRY(authority.save(directory));
  return "made the authority " + directory + "/ca.pem; ca.key stays here, ca.pem and ca.crl go to every host";
}

Result<std::string> issue(const Request& request) {
  const auto directory = directory_of(request);
  TRY(check_name(request.subject));
  for (const auto& name : request.names) TRY(check_name(name));
  const auto file = directory + "/" + request.subject;
  if (fs::exists(file + ".pem") && !request.force)
    return fail(Word::taken, file + ".pem exists; --force replaces it");
  auto authority = TRY(pki::Authority::load(directory));
  std::vector<std::string> names{request.subject};
  names.insert(names.end(), request.names.begin(), request.names.end());
  // Both purposes unless one was asked for: hosts both dial and listen.
  const bool both = !request.for_client && !request.for_server;
  const pki::Order order{.names = names,
                         .server = both || request.for_server,
                         .client = both || request.for_client,
                         .days = request.days};
  TRY(authority.issue(order, file));
  return "issued " + file + ".pem with its key in " + file + ".key (give both to that host alone)";
}

Result<std::string> revoke(const Request& request) {
  const auto directory = directory_of(request);
  TRY(check_name(request.subject));
  auto authority = TRY(pki::Authority::load(directory));
  TRY(authority.revoke(directory + "/" + request.subject + ".pem"));
  return "revoked " + directory + "/" + request.subject + ".pem; copy " + directory +
         "/ca.crl to the hosts whose profiles name it in `crl`";
}

Result<std::string> carry_out(const Request& request) {
  if (request.action == "init") return init(request);
  if (request.subject.empty()) return fail(Word::bad_request, "ca " + request.action + " needs a NAME");
  return request.action == "issue" ? issue(request) : revoke(request);
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
  auto secret = pki::random_hex(32);
  if (!secret) return fail_with(request, secret.error());
  const auto identity = request.subject.empty() ? std::string{} : request.subject + ":";
  std::string text;
  ipc::JsonWriter{text}.object().add_if("identity", request.subject).add("secret", *secret).end();
  put_line(request.json ? text : identity + *secret);
  return 0;
}
}  // namespace plumb
