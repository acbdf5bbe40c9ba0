// tls:// as a helper's scheme: which key, which context, and what the far side is called.
#pragma once
#include <optional>
#include <set>

#include "ipc/stream_scheme.hh"
#include "tlsd/handshake.hh"

namespace tlsd {

class TlsScheme final : public ipc::StreamScheme {
 public:
  std::vector<std::string> schemes() const override { return {"tls"}; }
  void configure(ipc::Helper& helper, ipc::JsonView settings) override;
  void end() override { turns_.reset(); }
  ipc::Progress after_connect(ipc::Helper& helper, ipc::Fd socket, const ipc::DialRequest& request,
                              ipc::OnEstablished done) override;
  ipc::Result<std::shared_ptr<void>> listener_context(ipc::Helper& helper,
                                                      const ipc::ListenRequest& request) override;
  ipc::Progress after_accept(ipc::Helper& helper, ipc::Fd socket, const std::shared_ptr<void>& context,
                             ipc::OnEstablished done) override;
  ipc::Result<ipc::Handover> hand_over(ipc::Helper& helper, std::unique_ptr<ipc::Stream> stream,
                                       Terms terms) override;
  bool is_overloaded() const override { return turns_ && turns_->are_crowded(); }
  ipc::Result<std::unique_ptr<ipc::Stream>> carrier(ipc::Helper& helper,
                                                    std::unique_ptr<ipc::Stream> stream) override;

 private:
  /// The context and key that a dial goes with.
  struct Credentials {
    std::shared_ptr<Context> context;
    std::string identity{};
    std::optional<Psk> psk{};
  };
  ipc::Result<Credentials> credentials(ipc::Helper& helper, const ipc::DialRequest& request);
  ipc::Result<Credentials> stored(ipc::Helper& helper, const ipc::DialRequest& request);
  ipc::Result<Credentials> given(ipc::Helper& helper, const ipc::DialRequest& request);
  ipc::Result<std::unique_ptr<Session>> client_session(ipc::Helper& helper, ipc::Fd socket,
                                                       const ipc::DialRequest& request);
  ipc::Result<std::unique_ptr<Session>> server_session(ipc::Helper& helper, ipc::Fd socket,
                                                       const std::shared_ptr<void>& context);
  ipc::Result<std::shared_ptr<Context>> context(ipc::Helper& helper, ipc::JsonView settings, Role role);
  static std::unique_ptr<ipc::Stream> relayed(ipc::Helper& helper, std::unique_ptr<Session> session,
                                              bool in_kernel);
  Turns& turns(ipc::Helper& helper);

  Contexts contexts_;
  std::optional<Turns> turns_;
  std::optional<ipc::JsonDocument> profiles_;
  std::set<std::string> warned_;  ///< identities whose weak secrets were told of
};

}  // namespace tlsd
