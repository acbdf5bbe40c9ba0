#include "udpd/filter.hh"

#include <linux/filter.h>
#include <sys/socket.h>

#include <vector>

#include "udpd/hop_datagram.hh"

namespace udpd {
namespace {
// The kernel runs the filter with the UDP header at offset 0; negative offsets reach the IP header.
constexpr std::uint32_t network_header = static_cast<std::uint32_t>(SKF_NET_OFF);
constexpr std::uint32_t source_v4 = network_header + 12, source_v6 = network_header + 8;
constexpr std::uint32_t udp_header = 8;
constexpr std::uint32_t everything = 0xffffffff;

std::uint32_t word(const unsigned char* bytes) {
  return static_cast<std::uint32_t>(bytes[0]) << 24 | static_cast<std::uint32_t>(bytes[1]) << 16 |
         static_cast<std::uint32_t>(bytes[2]) << 8 | bytes[3];
}

/// Instructions in the order they run.
class Program {
 public:
  void load(std::uint16_t width, std::uint32_t offset) { put(BPF_LD | BPF_ABS | width, offset); }
  /// Goes on when the loaded value is this one; the datagram is dropped otherwise.
  void require(std::uint32_t value) {
    put(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    put(BPF_RET | BPF_K, 0);
  }
  /// Goes on when it is this one; the datagram gets in otherwise.
  void accept_unless(std::uint32_t value) {
    put(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    put(BPF_RET | BPF_K, everything);
  }
  /// Reading behind the end would drop the datagram: short ones, empty ones too, get in here.
  void accept_shorter_than(std::uint32_t size) {
    put(BPF_LD | BPF_W | BPF_LEN, 0);
    put(BPF_JMP | BPF_JGE | BPF_K, size, 1, 0);
    put(BPF_RET | BPF_K, everything);
  }
  void end(bool accepts) { put(BPF_RET | BPF_K, accepts ? everything : 0); }

  ipc::Result<> attach(int socket) {
    const sock_fprog program{.len = static_cast<unsigned short>(code_.size()), .filter = code_.data()};
    if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
      return ipc::fail_errno("setsockopt(SO_ATTACH_FILTER)");
    // Whoever gets the socket could take the filter off, disconnect, and be sent the datagrams of new peers.
    const int on = 1;
    if (::setsockopt(socket, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof on) == 0) return {};
    return ipc::fail_errno("setsockopt(SO_LOCK_FILTER)");
  }

 private:
  void put(int code, std::uint32_t operand, std::uint8_t if_true = 0, std::uint8_t if_false = 0) {
    code_.push_back({static_cast<std::uint16_t>(code), if_true, if_false, operand});
  }
  std::vector<sock_filter> code_;
};

void require_source(Program& program, const Peer& peer) {
  for (std::uint32_t i = 0; i < (peer.address.v6 ? 16U : 4U); i += 4) {
    program.load(BPF_W, (peer.address.v6 ? source_v6 : source_v4) + i);
    program.require(word(peer.address.bytes.data() + i));
  }
  program.load(BPF_H, 0);
  program.require(peer.port);
}

void refuse_hop(Program& program) {
  program.accept_shorter_than(udp_header + magic.size());
  program.load(BPF_W, udp_header);
  program.accept_unless(word(magic.data()));
  program.load(BPF_W, udp_header + 4);
  program.accept_unless(word(magic.data() + 4));
}
}  // namespace

ipc::Result<> attach_filter(int socket, const std::optional<Peer>& peer, bool no_hop) {
  Program program;
  if (peer) require_source(program, *peer);
  if (no_hop) refuse_hop(program);
  program.end(!no_hop);
  return program.attach(socket);
}
}  // namespace udpd
