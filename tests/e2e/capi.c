/* The C interface from a C11 program: what capi_test.cc runs against a scripted router. */
#include <errno.h>
#include <ipc/ipc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int complain(const char* what) {
  fprintf(stderr, "%s: %s: %s (%s)\n", what, strerror(errno), ipc_error_text(), ipc_error_word());
  return 1;
}

/* Sends one message and prints the answer; or answers one with its own payload. */
static int talk(int fd, const char* say) {
  ipc_messages* messages = ipc_messages_new(fd);
  if (messages == NULL) return complain("ipc_messages_new");
  ipc_message message = {2, 7, say, say != NULL ? strlen(say) : 0};
  if (say != NULL && ipc_send(messages, &message, 10000) != 0) return complain("ipc_send");
  if (ipc_receive(messages, &message, 10000) != 1) return complain("ipc_receive");
  printf("message %u %.*s\n", message.user_type, (int)message.size, (const char*)message.payload);
  if (say == NULL && ipc_send(messages, &message, 10000) != 0) return complain("ipc_send");
  if (say != NULL && ipc_receive(messages, &message, 10000) != 0) return complain("no end");
  ipc_messages_free(messages);
  return 0;
}

static int connect_to(const char* service) {
  ipc_info* info = NULL;
  ipc_client* client = ipc_client_new(NULL);
  ipc_client_set_timeout(client, 10000);
  ipc_client_set_ktls(client, 1);
  if (ipc_client_set_label(client, "trace", "c") != 0) return complain("ipc_client_set_label");
  const int fd = ipc_client_connect(client, service, &info);
  ipc_client_free(client);
  if (fd < 0) return complain("ipc_client_connect");
  printf("path %s\n", ipc_info_path(info));
  for (size_t i = 0; i < ipc_info_label_count(info); ++i)
    printf("label %s %s\n", ipc_info_label_name(info, i), ipc_info_label_value(info, i));
  ipc_info_free(info);
  return talk(fd, "hello");
}

static int serve(const char* name) {
  ipc_service* service = ipc_serve(name, IPC_SHARED | IPC_KTLS, NULL);
  if (service == NULL) return complain("ipc_serve");
  struct pollfd ready = {.fd = ipc_service_fd(service), .events = POLLIN};
  if (poll(&ready, 1, 10000) != 1) return complain("poll");
  ipc_info* info = NULL;
  const int fd = ipc_accept(service, 10000, &info);
  if (fd < 0) return complain("ipc_accept");
  printf("uid %s\n", ipc_info_label(info, "client.uid"));
  for (size_t i = 0, size = 0; i < ipc_info_first_count(info); ++i) {
    const char* bytes = ipc_info_first(info, i, &size);
    printf("first %.*s\n", (int)size, bytes);
  }
  ipc_info_free(info);
  const int status = talk(fd, NULL);
  if (ipc_accept(service, 0, NULL) != -1 || errno != ETIMEDOUT) return complain("a second caller");
  ipc_service_free(service);
  return status;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (ipc_api_version() / 1000 != IPC_API_MAJOR) return 2;
  return strcmp(argv[1], "serve") == 0 ? serve(argv[2]) : connect_to(argv[2]);
}
