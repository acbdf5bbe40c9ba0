#include "tlsd/scheme.hh"

#include <sys/socket.h>

#include "ipc/name.hh"
#include "ipc/plain_end.hh"
#include "tlsd/ktls_stream.hh"

namespace tlsd {
namespace {
using ipc::fail;
using ipc::Helper;
using ipc::Result;
using ipc::Word;

constexpr std::size_t most_warnings = 256;

/// What a listener remembers: its profile. The context is asked for anew with each connection.
struct Profile {
  ipc::JsonDocument settings;
  bool reads_hop;
};

/// A relay of whole messages waits until nothing lies unread in its target, which a PlainEnd never grants.
Result<std::pair<ipc::Fd, std::unique_ptr<ipc::Stream>>> plain_pair(ipc::Framing framing, bool onward) {
  if (framing == ipc::Framing::bytes)
    return ipc::PlainEnd::make(onward ? ipc::PlainEnd::Peer::relay : ipc::PlainEnd::Peer::program);
  auto [theirs, ours] = TRY(ipc::socket_pair(SOCK_STREAM));
  TRY(ipc::set_blocking(theirs.borrow(), true));
  return std::pair{std::move(theirs), ipc::socket_stream(std::move(ours))};
}

Log log_of(Helper& helper) {
  return [&helper](std::string_view level, std::string_view message) { helper.log(level, message); };
}

std::string peer_text(int socket) {
  sockaddr_storage storage;
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (::getpeername(socket, address, &size) != 0) return "the client";
  const auto peer = ipc::from_sockaddr(address);
  return peer ? "client " + ipc::to_string(peer->first) : "the client";
}

/// Whom the certificate must name, and SNI (RFC 6066: never an address).
Result<> expect_name(SSL* ssl, const Settings& settings, const ipc::Uri& uri) {
  const auto& name = settings.server_name.empty() ? uri.host : settings.server_name;
  const auto address = settings.server_name.empty() ? uri.address : ipc::parse_address(name);
  auto* rules = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(rules,
                                  X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  const int set = address ? X509_VERIFY_PARAM_set1_ip_asc(rules, ipc::to_string(*address).c_str())
                          : SSL_set1_host(ssl, name.c_str());
  if (set != 1)
    return fail(Word::bad_request, ipc::printable(name) + " is no name that a certificate can have");
  if (!address && SSL_set_tlsext_host_name(ssl, name.c_str()) != 1)
    return fail(Word::bad_request, ipc::printable(name) + " is no name for SNI");
  return {};
}

/// Offers plumb/1 behind the protocols of the profile.
void offer_agreement(Session& session) {
  auto& facts = session.facts();
  const auto protocols = facts.context->alpn() + static_cast<char>(plumb_protocol.size());
  const auto all = protocols + std::string(plumb_protocol);
  SSL_set_alpn_protos(session.raw(), reinterpret_cast<const unsigned char*>(all.data()),
                      static_cast<unsigned>(all.size()));
}

void resume(Session& session, const Settings& settings, const ipc::Uri& uri, const std::string& identity) {
  auto& facts = session.facts();
  if (!settings.session_cache || facts.psk) return;
  facts.place = identity + "@" + uri.host + ":" + std::to_string(uri.port_or_default());
  const auto kept = facts.context->sessions().take(facts.place);
  facts.session_end = kept ? end_of(kept.get()) : facts.context->session_end();
  if (kept) SSL_set_session(session.raw(), kept.get());
}
}  // namespace

Turns& TlsScheme::turns(Helper& helper) {
  if (!turns_) turns_.emplace(helper.loop());
  return *turns_;
}

void TlsScheme::configure(Helper&, ipc::JsonView settings) {
  auto profiles =
      ipc::JsonDocument::parse(settings["profiles"].exists() ? settings["profiles"].text() : "{}");
  if (profiles) profiles_ = std::move(*profiles);
  contexts_.forget();
  contexts_.share(settings["shared_secret"].string_or(""));
  forget_ktls_probe();
  warned_.clear();
}

Result<std::shared_ptr<Context>> TlsScheme::context(Helper& helper, ipc::JsonView settings, Role role) {
  return contexts_.get(settings, role, helper.loop().now(), log_of(helper));
}

/// The key of an identity whose secret is in the URI.
Result<TlsScheme::Credentials> TlsScheme::given(Helper& helper, const ipc::DialRequest& request) {
  const auto& uri = request.uri;
  auto psk = TRY(psk_from(uri.secret));
  if (is_weak(uri.secret) && warned_.size() < most_warnings && warned_.insert(uri.user).second)
    helper.log("warn", "the pre-shared key that a client gives for " + ipc::printable(uri.user, 64) +
                           " looks easy to guess; `plumb psk new` draws a strong one");
  return Credentials{TRY(context(helper, request.settings, Role::client)), uri.user, std::move(psk)};
}

/// The key of an identity that we hold ourselves: a line in the profile's psk_file, or the profile of that
/// name.
Result<TlsScheme::Credentials> TlsScheme::stored(Helper& helper, const ipc::DialRequest& request) {
  const auto& identity = request.uri.user;
  auto own = TRY(context(helper, request.settings, Role::client));
  if (const auto* psk = own->psks().find(identity)) return Credentials{std::move(own), identity, *psk};
  const auto profile = profiles_ ? profiles_->root()[identity] : ipc::JsonView{};
  if (!profile.exists())
    return fail(Word::auth, "no key is known for the identity " + ipc::printable(identity, 64) +
                                ": it needs a line in psk_file, or a profile [tls." +
                                ipc::printable(identity, 64) + "]");
  auto named = TRY(context(helper, profile, Role::client));
  if (const auto* psk = named->psks().find(identity)) return Credentials{std::move(named), identity, *psk};
  if (named->settings().certificate.empty())
    return fail(Word::auth, "[tls." + ipc::printable(identity, 64) +
                                "] holds neither a certificate nor a pre-shared key");
  return Credentials{std::move(named)};
}

Result<TlsScheme::Credentials> TlsScheme::credentials(Helper& helper, const ipc::DialRequest& request) {
  if (!request.uri.secret.empty()) return given(helper, request);
  if (!request.uri.user.empty()) return stored(helper, request);
  auto own = TRY(context(helper, request.settings, Role::client));
  const auto& identity = own->settings().identity;
  if (identity.empty() || own->settings().psk_file.empty()) return Credentials{std::move(own)};
  const auto* psk = own->psks().find(identity);
  if (psk == nullptr)
    return fail(Word::auth, "psk_file " + own->settings().psk_file + " has no key for the identity " +
                                ipc::printable(identity, 64));
  return Credentials{own, identity, *psk};
}

Result<std::unique_ptr<Session>> TlsScheme::client_session(Helper& helper, ipc::Fd socket,
                                                           const ipc::DialRequest& request) {
  auto with = TRY(credentials(helper, request));
  const auto& settings = with.context->settings();
  auto session = TRY(Session::make(std::move(socket), with.context, ipc::printable(request.uri.host, 128)));
  session->facts().psk = std::move(with.psk);
  session->facts().identity = with.identity;
  const auto framing = ipc::framing_from(request.incoming.message.params["framing"].string_or("bytes"));
  session->facts().framing = framing.value_or(ipc::Framing::bytes);
  if (session->facts().psk && !offer_psk(session->raw()))
    return fail(Word::internal, "cannot offer a pre-shared key: " + take_reason());
  TRY(expect_name(session->raw(), settings, request.uri));
  SSL_set_tlsext_status_type(session->raw(), TLSEXT_STATUSTYPE_ocsp);
  if (request.hop && settings.ktls == Ktls::direct) offer_agreement(*session);
  resume(*session, settings, request.uri, request.uri.user);
  return session;
}

ipc::Progress TlsScheme::after_connect(Helper& helper, ipc::Fd socket, const ipc::DialRequest& request,
                                       ipc::OnEstablished done) {
  auto session = client_session(helper, std::move(socket), request);
  if (!session) return std::unexpected(std::move(session).error());
  return Handshake::begin(helper.loop(), turns(helper), std::move(*session), std::move(done));
}

Result<std::shared_ptr<void>> TlsScheme::listener_context(Helper& helper, const ipc::ListenRequest& request) {
  TRY(context(helper, request.settings, Role::server));
  const auto text = request.settings.exists() ? request.settings.text() : std::string("{}");
  return std::make_shared<Profile>(Profile{TRY(ipc::JsonDocument::parse(text)), request.service.empty()});
}

Result<std::unique_ptr<Session>> TlsScheme::server_session(Helper& helper, ipc::Fd socket,
                                                           const std::shared_ptr<void>& profile) {
  const auto& own = *static_cast<const Profile*>(profile.get());
  auto peer = peer_text(socket.borrow());
  auto loaded = TRY(context(helper, own.settings.root(), Role::server));
  const bool may_agree = own.reads_hop && loaded->settings().ktls == Ktls::direct;
  auto session = TRY(Session::make(std::move(socket), std::move(loaded), std::move(peer)));
  session->facts().may_agree = may_agree;
  return session;
}

ipc::Progress TlsScheme::after_accept(Helper& helper, ipc::Fd socket, const std::shared_ptr<void>& profile,
                                      ipc::OnEstablished done) {
  auto session = server_session(helper, std::move(socket), profile);
  if (!session) return std::unexpected(std::move(session).error());
  return Handshake::begin(helper.loop(), turns(helper), std::move(*session), std::move(done));
}

/// What goes on once the session is relayed: the kernel, which has its keys already, or OpenSSL.
std::unique_ptr<ipc::Stream> TlsScheme::relayed(Helper& helper, std::unique_ptr<Session> session,
                                                bool in_kernel) {
  const auto tell = [&helper](const ipc::Error& fault) { helper.log("warn", fault.text); };
  if (!in_kernel) {
    session->begin_relay();
    session->tell_fault(tell);
    return session;
  }
  auto peer = session->facts().peer;
  auto stream = std::make_unique<KtlsStream>(std::move(*session).take_socket(), std::move(peer));
  stream->tell_fault(tell);
  return stream;
}

Result<std::unique_ptr<ipc::Stream>> TlsScheme::carrier(Helper& helper, std::unique_ptr<ipc::Stream> stream) {
  std::unique_ptr<Session> session{static_cast<Session*>(stream.release())};
  const bool in_kernel = TRY(into_kernel(*session));
  return relayed(helper, std::move(session), in_kernel);
}

Result<ipc::Handover> TlsScheme::hand_over(Helper& helper, std::unique_ptr<ipc::Stream> stream, Terms terms) {
  // A spare connection whose hop was made through our relay: that goes on as it is.
  if (dynamic_cast<Session*>(stream.get()) == nullptr) {
    auto socket = std::move(static_cast<ipc::SocketStream&>(*stream)).take();
    ipc::prepare_for_handover(socket.borrow());
    return ipc::Handover{std::move(socket), "relay"};
  }
  std::unique_ptr<Session> session{static_cast<Session*>(stream.release())};
  const bool in_kernel = TRY(into_kernel(*session));
  if (in_kernel && terms.ktls && has_agreed(*session)) {
    auto socket = std::move(*session).take_socket();
    ipc::prepare_for_handover(socket.borrow());
    return ipc::Handover{std::move(socket), "ktls"};
  }
  const auto framing = session->facts().framing;
  const ipc::RelayOptions options{.framing = framing, .idle = terms.idle};
  const bool onward = terms.onward && framing == ipc::Framing::bytes;
  auto [theirs, ours] = TRY(plain_pair(framing, onward));
  helper.relay(relayed(helper, std::move(session), in_kernel), std::move(ours), options);
  return ipc::Handover{std::move(theirs), in_kernel ? "ktls-relay" : "relay", onward};
}
}  // namespace tlsd
