// The socket as OpenSSL sees it.
#pragma once
#include "tlsd/openssl.hh"

namespace tlsd {

/// A BIO on a non-blocking socket, which stays the caller's. A record of its own for each 16 KiB need not be
/// a segment of its own: while `hold_back` says so, the kernel keeps what does not fill a segment (MSG_MORE)
/// for the next record. (Nothing happens on a BIO that is not of this kind.)
Bio socket_bio(int socket);
void hold_back(SSL* ssl, bool more);
/// How many more bytes OpenSSL gets from the socket, at first none; then it is told to come back later. By
/// itself it reads on as long as a peer sends what is no data, and nobody else has a turn.
void give_credit(SSL* ssl, std::size_t bytes);
/// Whether the last bytes that OpenSSL got were all that the socket had.
bool ran_dry(SSL* ssl);

}  // namespace tlsd
