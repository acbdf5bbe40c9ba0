// udpd: udp:// for plumberd.
#include "udpd/scheme.hh"

int main(int argc, char** argv) {
  udpd::Udp udp;
  return ipc::helper_main(argc, argv, "connects and listens with UDP for plumberd", udp);
}
