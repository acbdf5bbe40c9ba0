/* libipc for C and for whatever can call C: ask for a service by name and get its connected socket; offer one
 * and get its callers' sockets; send and receive whole messages on any of them. libipc(3) has examples.
 *
 * Conventions
 * - Functions that return int or a pointer fail with -1 or NULL and set errno: EACCES (a rule denies it),
 * EINVAL (the request is malformed), ENOENT (nobody offers the service), ECONNREFUSED (there is no router),
 * EHOSTUNREACH, ETIMEDOUT, EPERM (somebody could not be authenticated), EPROTONOSUPPORT (no helper for the
 * scheme), ELOOP, EAGAIN (a limit is reached), EADDRINUSE (the name is offered by somebody else), EIO.
 * ipc_error_text() has the sentence.
 * - Timeouts are milliseconds; negative waits for ever. EINTR is never reported: a wait goes on.
 * - Descriptors returned belong to the caller, are blocking and CLOEXEC. No call raises SIGPIPE.
 * - Texts are NUL-terminated UTF-8 and belong to the object they were asked of, unless it says otherwise.
 * - An object is for one thread at a time; different objects are independent. free functions take NULL.
 */
#ifndef IPC_IPC_H
#define IPC_IPC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* This interface: the first number changes when programs have to change, the second when something was added.
 */
#define IPC_API_MAJOR 1
#define IPC_API_MINOR 1
/* major * 1000 + minor of the library that runs. */
int ipc_api_version(void);
/* "0.1.0": the release the library belongs to. */
const char* ipc_version(void);

/* --- the last failure in this thread; valid until the next call that fails in it --- */

/* One sentence. "" before any failure. */
const char* ipc_error_text(void);
/* "DENIED", "TIMEOUT", ...: the words of docs/protocol.md, section 7, and "NO_ROUTER". "" before any failure.
 */
const char* ipc_error_word(void);
/* The text and FILE:LINE of the rule that denied it, where the router discloses them, else "". */
const char* ipc_error_rule(void);
const char* ipc_error_at(void);
/* 1 when the far side refused, not the router here. */
int ipc_error_is_far(void);

/* --- connecting --- */

/* A connected socket of the service, by IPC_NETWORKD (else IPC_NETWORK) and the router; 30 s. */
int ipc_connect(const char* service);
/* The same for a place: "tcp://host:port/service", ... */
int ipc_connect_uri(const char* uri);

/* What is known about a connection. */
typedef struct ipc_info ipc_info;
/* How its bytes travel: "direct", "ktls", "ktls-relay", "relay"; "" for connections that came in. */
const char* ipc_info_path(const ipc_info* info);
/* The value of a label ("client.uid", "peer.address", "cert.name", "claimed.x", ...), NULL where it is not
 * set. */
const char* ipc_info_label(const ipc_info* info, const char* name);
/* All labels by number, in the order of their names; NULL from the count on. */
size_t ipc_info_label_count(const ipc_info* info);
const char* ipc_info_label_name(const ipc_info* info, size_t number);
const char* ipc_info_label_value(const ipc_info* info, size_t number);
/* Datagrams that came before a caller's socket existed, in order; to be treated as the first ones read from
 * it. */
size_t ipc_info_first_count(const ipc_info* info);
const void* ipc_info_first(const ipc_info* info, size_t number, size_t* size);
void ipc_info_free(ipc_info* info);

/* Keeps its connection to the router: for programs that dial often. After fork(2) a child opens its own. */
typedef struct ipc_client ipc_client;
/* rundir: the run directory; NULL: what the environment says. Does not connect yet. */
ipc_client* ipc_client_new(const char* rundir);
/* For each dial from now on; 30000 at first. */
void ipc_client_set_timeout(ipc_client* client, int timeout);
/* Instead of $IPC_NETWORKD; NULL: the environment again. */
int ipc_client_set_networkd(ipc_client* client, const char* networkd);
/* A claim that services see under "claimed."; NULL as value takes it back. */
int ipc_client_set_label(ipc_client* client, const char* name, const char* value);
/* on: the sockets are used with ipc_read, ipc_shutdown and ipc_close (below), so that the path "ktls" is
 * welcome. Since 1.1. */
void ipc_client_set_ktls(ipc_client* client, int on);
/* info may be NULL; otherwise *info is to be freed with ipc_info_free when the call succeeds. */
int ipc_client_connect(ipc_client* client, const char* service, ipc_info** info);
int ipc_client_connect_uri(ipc_client* client, const char* uri, ipc_info** info);
void ipc_client_free(ipc_client* client);

/* --- offering a service --- */

typedef struct ipc_service ipc_service;
/* Processes of the same user share the name, round-robin. */
#define IPC_SHARED 1u
/* Sockets are used with ipc_read, ipc_shutdown and ipc_close (below): the kernel may speak TLS on them. Since
 * 1.1. */
#define IPC_KTLS 2u
/* Registers with the router. flags: 0, or what it is of these two. rundir as in ipc_client_new. */
ipc_service* ipc_serve(const char* name, unsigned flags, const char* rundir);
/* The socket of the next caller; ETIMEDOUT when none came. After a router restart the name is registered
 * again in here. */
int ipc_accept(ipc_service* service, int timeout, ipc_info** info);
/* For poll(2): readable when ipc_accept with timeout 0 has something to do (which may be nothing to return).
 * Stays the service's. */
int ipc_service_fd(const ipc_service* service);
/* The name is gone; sockets handed out live on. */
void ipc_service_free(ipc_service* service);

/* --- bytes on any connected socket, also where the kernel speaks TLS (path "ktls"); since 1.1 --- */

/* read(2), -1 with errno as there: 0 is an end in order, ECONNRESET a connection that was cut. */
ssize_t ipc_read(int fd, void* buffer, size_t size);
/* shutdown(2) of our direction, said to the other side as TLS wants it. */
int ipc_shutdown(int fd);
/* close(2), likewise; may wait as write(2) does. The descriptor is closed whatever it returns. A connection
 * of path "ktls" that ends without it (or ipc_shutdown) looks cut to the other side. */
int ipc_close(int fd);

/* --- messages in the frame of libipc 0.7, on any connected socket --- */

typedef struct ipc_messages ipc_messages;
typedef struct ipc_message {
  uint8_t type;      /* 2: data */
  uint8_t user_type; /* the application's */
  const void* payload;
  size_t size;
} ipc_message;
/* Takes over the descriptor, also when it fails. */
ipc_messages* ipc_messages_new(int fd);
/* 0, or -1: EINVAL too large (the sentence says the limit), EHOSTUNREACH the other side is gone, ETIMEDOUT.
 */
int ipc_send(ipc_messages* messages, const ipc_message* message, int timeout);
/* 1: *message is the next one, its payload valid until the next call on these messages. 0: the other side
 * ended. -1: ETIMEDOUT, EINVAL (what came is no message), EHOSTUNREACH. */
int ipc_receive(ipc_messages* messages, ipc_message* message, int timeout);
/* 1 when ipc_receive answers without the socket becoming readable. Ask before poll(2). */
int ipc_messages_ready(const ipc_messages* messages);
/* The descriptor; stays the messages'. */
int ipc_messages_fd(const ipc_messages* messages);
/* The largest payload that ipc_send accepts here. */
size_t ipc_messages_limit(const ipc_messages* messages);
/* Closes the descriptor. */
void ipc_messages_free(ipc_messages* messages);

#ifdef __cplusplus
}
#endif
#endif
