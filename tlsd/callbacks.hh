// What OpenSSL's callbacks note about one connection while its handshake goes on.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "ipc/frame.hh"
#include "tlsd/context.hh"
#include "tlsd/ktls.hh"

namespace tlsd {

struct Facts {
  std::shared_ptr<Context> context;
  std::string peer;  ///< what sentences call the far side
  int verify_error = X509_V_OK;
  Certificate verify_at{};  ///< the certificate that did not pass
  bool verify_at_leaf = true;
  Crl verify_list{};         ///< the revocation list that was of no use
  std::string identity{};    ///< client: ours; server: the one the peer named
  std::optional<Psk> psk{};  ///< client: the key to offer
  bool psk_unknown = false;  ///< server: no key for the identity
  bool asked_for_certificate = false;
  bool got_ticket = false;
  bool may_agree = false;  ///< server: to plumb/1
  bool asked_to_renegotiate = false;
  std::string staple_fault{};  ///< why the stapled OCSP response forbids to go on
  bool staple_good = false;
  Records records{};
  ipc::Framing framing = ipc::Framing::bytes;  ///< what the client reads: bytes, or whole libipc messages
  std::string place{};                         ///< where tickets are kept; empty: nowhere
  std::int64_t session_end = 0;                ///< client: of this session and of all that resume it
};

/// Makes the context's connections fill the Facts in their app data (SSL_set_app_data; they must live as long
/// as the SSL).
void install_callbacks(Context& context);
/// Makes OpenSSL tell the secrets of every connection from now on, to the key log and to Facts::records. It
/// prints them digit by digit, a tenth of a resumed handshake: only where somebody wants them.
void tell_secrets(Context& context);
/// Lets this client connection offer `facts.psk`, and nothing but pre-shared keys.
bool offer_psk(SSL* ssl);

}  // namespace tlsd
