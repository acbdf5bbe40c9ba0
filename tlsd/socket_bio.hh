// The socket as OpenSSL sees it.
#pragma once
#include "tlsd/openssl.hh"

namespace tlsd {

/// A BIO on a non-blocking socket, which stays the caller's. A record of its own for each 16 KiB need not be
/// a segment of its own: while `hold_back` says so, the kernel keeps what does not fill a segment (MSG_MORE)
/// for the next record. (Nothing happens on a BIO that is not of this kind.)
Bio socket_bio(int socket);
void hold_back(SSL* ssl, bool more);

}  // namespace tlsd
