// The router's side of a helper channel, driven line by line by a test; the helper is the real program.
#pragma once
#include "ipc/frame.hh"
#include "ipc/hop.hh"
#include "tests/e2e/kit.hh"

namespace kit {

class ScriptedRouter {
 public:
  /// Starts build/bin/`program` and takes its hello.
  explicit ScriptedRouter(const std::string& program, std::vector<std::string> env = {})
      : ScriptedRouter{Command{.args = {binary(program)}, .env = std::move(env)}} {}
  /// The same with any helper, ours or not.
  explicit ScriptedRouter(Command command);
  /// Sends a dial of `uri`; `more` is JSON text of further members of params. Does not wait.
  void send_dial(int id, std::string_view uri, std::string_view more = R"("judge":false)");
  /// The same, and waits for what the helper says next.
  Wire::Datagram dial(std::string_view uri, std::string_view more = R"("judge":false)");
  /// The next message that is no `log`; those are kept for `logs`.
  Wire::Datagram answer();
  const std::string& logs() const { return logs_; }
  Wire::Datagram listen(std::string_view uri, std::string_view more = {});
  /// The port of a `listen` on `uri`.
  std::uint16_t listen_port(std::string_view uri, std::string_view more = {}, int id = 1);
  void notify(std::string_view method, std::string_view params, std::span<const int> fds = {});
  void answer(const Wire::Datagram& request, std::string_view result, std::span<const int> fds = {}) {
    wire_->answer(request, result, fds);
  }
  /// The next message, which must be the request or notification `method`.
  Wire::Datagram expect(std::string_view method);
  Wire& wire() { return *wire_; }
  Process& helper() { return *process_; }
  std::size_t fds() const { return open_fds(process_->pid()); }
  /// Until the helper holds as many descriptors as it did after its hello.
  bool is_back_to_rest();
  void close() { wire_->close(); }

 private:
  Wire::Datagram next(std::string_view wanted = {});
  std::optional<Wire> wire_;
  std::optional<Process> process_;
  std::size_t fds_at_rest_ = 0;
  std::string logs_;
  int next_id_ = 100;
};

/// The frame a dialling router sends.
std::string hop_frame(std::string_view service, int hops = 1);
/// One 0.7 frame from a socket, to the byte.
std::string receive_frame(int socket, Milliseconds within = patience);
/// Which TCP socket this is, for messages in tests: whether SO_KEEPALIVE, TCP_NODELAY and so on are set as
/// handed-over sockets have them, and whether it blocks.
bool is_fit_for_clients(int socket);

}  // namespace kit
