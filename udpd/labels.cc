#include "udpd/labels.hh"

#include "ipc/json.hh"

namespace udpd {
std::string labels_text(const Peer& peer, const std::optional<Peer>& local) {
  std::string text;
  ipc::JsonWriter writer{text};
  writer.object().add("scheme", "udp");
  writer.add("peer.address", ipc::to_string(peer.address)).add("peer.port", std::to_string(peer.port));
  if (local) {
    writer.add("local.address", ipc::to_string(local->address));
    writer.add("local.port", std::to_string(local->port));
  }
  writer.end();
  return text;
}
}  // namespace udpd
