// tcpd: tcp:// for plumberd. TCP is what libipc's StreamScheme does by itself; nothing is added.
#include "ipc/stream_scheme.hh"

namespace {
class Tcp final : public ipc::StreamScheme {
 public:
  std::vector<std::string> schemes() const override { return {"tcp"}; }
};
}  // namespace

int main(int argc, char** argv) {
  Tcp tcp;
  return ipc::helper_main(argc, argv, "connects to and listens on TCP for plumberd", tcp);
}
