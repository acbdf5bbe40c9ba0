// The C interface: handles around the C++ classes. Nothing thrown (bad_alloc) crosses it.
#include <cerrno>
#include <exception>
#include <new>

#include "ipc/client.hh"
#include "ipc/ipc.h"
#include "ipc/message.hh"
#include "ipc/service.hh"
#include "ipc/tls_socket.hh"

struct ipc_info {
  std::string path;
  std::vector<std::pair<std::string, std::string>> labels;
  std::vector<std::string> first;
};
struct ipc_client {
  ipc::Client client;
  ipc::ConnectOptions options;
};
struct ipc_service {
  ipc::Service service;
};
struct ipc_messages {
  ipc::MessageSocket socket;
  ipc::Message last;
};

namespace {
struct LastFailure {
  bool any = false;
  ipc::Error error{};
};
LastFailure& last_failure() {
  static thread_local LastFailure last;
  return last;
}

void remember(ipc::Error error) {
  auto& last = last_failure();
  last = {true, std::move(error)};
  errno = ipc::errno_of(last.error.word);
}

/// Runs `body`, which returns a Result, and gives its value or `failed` with errno and the sentence set.
template <class T, class Body>
T guarded(T failed, Body body) {
  try {
    auto result = body();
    if (result) return std::move(*result);
    remember(std::move(result).error());
  } catch (const std::exception&) {  // out of memory: no sentence that would need more of it
    last_failure() = {true, ipc::Error{}};
    errno = ENOMEM;
  }
  return failed;
}

std::unexpected<ipc::Error> null_argument() {
  return ipc::fail(ipc::Word::bad_request, "an argument is NULL that may not be");
}

ipc::Milliseconds ms(int timeout) { return ipc::Milliseconds{timeout}; }

ipc_info* new_info(std::string path, const ipc::Labels& labels, std::vector<std::string> first) {
  return new ipc_info{std::move(path), {labels.begin(), labels.end()}, std::move(first)};
}

ipc::Result<int> hand_out(ipc::Result<ipc::Connection> connection, ipc_info** info) {
  auto made = TRY(std::move(connection));
  if (info != nullptr) *info = new_info(std::move(made.path), made.labels, {});
  return std::move(made.fd).release();
}
}  // namespace

#define IPC_PUBLIC extern "C" __attribute__((visibility("default")))

IPC_PUBLIC int ipc_api_version(void) { return IPC_API_MAJOR * 1000 + IPC_API_MINOR; }
IPC_PUBLIC const char* ipc_version(void) { return PLUMBERD_VERSION; }

IPC_PUBLIC const char* ipc_error_text(void) { return last_failure().error.text.c_str(); }
IPC_PUBLIC const char* ipc_error_word(void) {
  const auto& last = last_failure();
  return last.any ? to_string(last.error.word).data() : "";
}
IPC_PUBLIC const char* ipc_error_rule(void) { return last_failure().error.rule.c_str(); }
IPC_PUBLIC const char* ipc_error_at(void) { return last_failure().error.at.c_str(); }
IPC_PUBLIC int ipc_error_is_far(void) { return last_failure().error.far ? 1 : 0; }

IPC_PUBLIC int ipc_connect(const char* service) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (service == nullptr) return null_argument();
    return hand_out(ipc::connect(service), nullptr);
  });
}

IPC_PUBLIC int ipc_connect_uri(const char* uri) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (uri == nullptr) return null_argument();
    return hand_out(ipc::connect_uri(uri), nullptr);
  });
}

IPC_PUBLIC const char* ipc_info_path(const ipc_info* info) { return info->path.c_str(); }
IPC_PUBLIC const char* ipc_info_label(const ipc_info* info, const char* name) {
  for (const auto& [key, value] : info->labels)
    if (name != nullptr && key == name) return value.c_str();
  return nullptr;
}
IPC_PUBLIC size_t ipc_info_label_count(const ipc_info* info) { return info->labels.size(); }
IPC_PUBLIC const char* ipc_info_label_name(const ipc_info* info, size_t number) {
  return number < info->labels.size() ? info->labels[number].first.c_str() : nullptr;
}
IPC_PUBLIC const char* ipc_info_label_value(const ipc_info* info, size_t number) {
  return number < info->labels.size() ? info->labels[number].second.c_str() : nullptr;
}
IPC_PUBLIC size_t ipc_info_first_count(const ipc_info* info) { return info->first.size(); }
IPC_PUBLIC const void* ipc_info_first(const ipc_info* info, size_t number, size_t* size) {
  const bool there = number < info->first.size();
  if (size != nullptr) *size = there ? info->first[number].size() : 0;
  return there ? info->first[number].data() : nullptr;
}
IPC_PUBLIC void ipc_info_free(ipc_info* info) { delete info; }

IPC_PUBLIC ipc_client* ipc_client_new(const char* rundir) {
  return guarded(static_cast<ipc_client*>(nullptr), [&]() -> ipc::Result<ipc_client*> {
    return new ipc_client{ipc::Client{rundir != nullptr ? rundir : ""}, {}};
  });
}

IPC_PUBLIC void ipc_client_set_timeout(ipc_client* client, int timeout) {
  client->options.timeout = ms(timeout);
}

IPC_PUBLIC int ipc_client_set_networkd(ipc_client* client, const char* networkd) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    client->options.networkd.reset();
    if (networkd != nullptr) client->options.networkd = networkd;
    return 0;
  });
}

IPC_PUBLIC int ipc_client_set_label(ipc_client* client, const char* name, const char* value) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (name == nullptr) return null_argument();
    if (value == nullptr) {
      client->options.labels.erase(name);
    } else {
      client->options.labels.insert_or_assign(name, value);
    }
    return 0;
  });
}

IPC_PUBLIC void ipc_client_set_ktls(ipc_client* client, int on) { client->options.ktls = on != 0; }

IPC_PUBLIC int ipc_client_connect(ipc_client* client, const char* service, ipc_info** info) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (service == nullptr) return null_argument();
    return hand_out(client->client.connect(service, client->options), info);
  });
}

IPC_PUBLIC int ipc_client_connect_uri(ipc_client* client, const char* uri, ipc_info** info) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (uri == nullptr) return null_argument();
    return hand_out(client->client.connect_uri(uri, client->options), info);
  });
}

IPC_PUBLIC void ipc_client_free(ipc_client* client) { delete client; }

IPC_PUBLIC ipc_service* ipc_serve(const char* name, unsigned flags, const char* rundir) {
  return guarded(static_cast<ipc_service*>(nullptr), [&]() -> ipc::Result<ipc_service*> {
    if (name == nullptr) return null_argument();
    if ((flags & ~(IPC_SHARED | IPC_KTLS)) != 0)
      return ipc::fail(ipc::Word::bad_request, "flags that this library does not know");
    const ipc::ServeOptions options{.rundir = rundir != nullptr ? rundir : "",
                                    .shared = (flags & IPC_SHARED) != 0,
                                    .ktls = (flags & IPC_KTLS) != 0};
    return new ipc_service{TRY(ipc::Service::serve(name, options))};
  });
}

IPC_PUBLIC int ipc_accept(ipc_service* service, int timeout, ipc_info** info) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    auto caller = TRY(service->service.accept(ms(timeout)));
    if (info != nullptr) *info = new_info({}, caller.labels, std::move(caller.first));
    return std::move(caller.fd).release();
  });
}

IPC_PUBLIC int ipc_service_fd(const ipc_service* service) { return service->service.pollable(); }
IPC_PUBLIC void ipc_service_free(ipc_service* service) { delete service; }

IPC_PUBLIC ssize_t ipc_read(int fd, void* buffer, size_t size) {
  return ipc::read_bytes(fd, {static_cast<char*>(buffer), size});
}
IPC_PUBLIC int ipc_shutdown(int fd) { return ipc::end_bytes(fd); }
IPC_PUBLIC int ipc_close(int fd) { return ipc::close_bytes(ipc::Fd{fd}); }

IPC_PUBLIC ipc_messages* ipc_messages_new(int fd) {
  ipc::Fd owned{fd};
  return guarded(static_cast<ipc_messages*>(nullptr), [&]() -> ipc::Result<ipc_messages*> {
    if (!owned) return ipc::fail(ipc::Word::bad_request, "the descriptor is negative");
    return new ipc_messages{ipc::MessageSocket{std::move(owned)}, {}};
  });
}

IPC_PUBLIC int ipc_send(ipc_messages* messages, const ipc_message* message, int timeout) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (message == nullptr || (message->payload == nullptr && message->size > 0)) return null_argument();
    const auto* bytes = static_cast<const char*>(message->payload);
    TRY(messages->socket.send({message->type, message->user_type, {bytes, message->size}}, ms(timeout)));
    return 0;
  });
}

IPC_PUBLIC int ipc_receive(ipc_messages* messages, ipc_message* message, int timeout) {
  return guarded(-1, [&]() -> ipc::Result<int> {
    if (message == nullptr) return null_argument();
    auto next = TRY(messages->socket.receive(ms(timeout)));
    *message = {};
    if (!next) return 0;
    messages->last = std::move(*next);
    const auto& last = messages->last;
    *message = {last.type, last.user_type, last.payload.data(), last.payload.size()};
    return 1;
  });
}

IPC_PUBLIC int ipc_messages_ready(const ipc_messages* messages) {
  return messages->socket.has_message() ? 1 : 0;
}
IPC_PUBLIC int ipc_messages_fd(const ipc_messages* messages) { return messages->socket.borrow(); }
IPC_PUBLIC size_t ipc_messages_limit(const ipc_messages* messages) { return messages->socket.limit(); }
IPC_PUBLIC void ipc_messages_free(ipc_messages* messages) { delete messages; }
