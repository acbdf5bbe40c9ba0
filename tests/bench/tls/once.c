/* A program that has no network code: it asks for a place (tls://host:port) and gets a socket, says one
 * thing, hears one, and exits. With a path instead it connects to a relay's front, as programs of relays do.
 */
#include <ipc/ipc.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_path(const char* path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(to.sun_path, path, sizeof to.sun_path - 1);
  return fd >= 0 && connect(fd, (struct sockaddr*)&to, sizeof to) == 0 ? fd : -1;
}

int main(int count, char** words) {
  char byte = 'e';
  if (count != 2) return 2;
  int fd = words[1][0] == '/' ? connect_path(words[1]) : ipc_connect_uri(words[1]);
  if (fd >= 0 && write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1) return 0;
  fprintf(stderr, "bench-once: %s: %s\n", words[1], ipc_error_text());
  return 1;
}
