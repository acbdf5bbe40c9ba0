// tlsd: tls:// for plumberd.
#include <sys/prctl.h>

#include "tlsd/scheme.hh"

int main(int argc, char** argv) {
  // Keys are in this memory: no core files, nobody of the same user looks in.
  ::prctl(PR_SET_DUMPABLE, 0);
  tlsd::TlsScheme tls;
  return ipc::helper_main(argc, argv, "connects to and listens on TLS for plumberd", tls);
}
