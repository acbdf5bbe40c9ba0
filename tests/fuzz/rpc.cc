#include "ipc/rpc.hh"

#include <string_view>

#include "tests/fuzz/fuzz.hh"

FUZZ_TARGET(rpc)

using ipc::rpc::Message;

int fuzz_rpc(const std::uint8_t* data, std::size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  std::string id;
  const auto message = ipc::rpc::decode(input, &id);
  fuzz::require(id.size() <= 128, "an id is short");
  if (!message) {
    const auto answer = ipc::rpc::decode(ipc::rpc::error(id, message.error()));
    fuzz::require(answer && answer->kind == Message::Kind::error, "every refusal can be read");
    fuzz::require(answer->id == id, "and names what it refuses");
    return 0;
  }
  fuzz::require(message->id == id, "the id is told early");
  const bool is_call =
      message->kind == Message::Kind::request || message->kind == Message::Kind::notification;
  fuzz::require(is_call != message->method.empty(), "calls have a method, answers none");
  if (message->kind != Message::Kind::request) return 0;
  const auto params = message->params.exists() ? message->params.text() : "{}";
  const auto again = ipc::rpc::decode(ipc::rpc::request(id, message->method, params));
  fuzz::require(again && again->kind == message->kind && again->id == id,
                "a request written again is the same");
  fuzz::require(again->method == message->method && again->params.text() == params, "in all its parts");
  return 0;
}
