// JSON-RPC 2.0 messages as datagrams (docs/protocol.md, "Messages"): encoding and decoding, no I/O.
#pragma once
#include <string>
#include <string_view>

#include "ipc/error.hh"
#include "ipc/json.hh"

namespace ipc::rpc {

/// The largest message on the native door and the helper channel.
constexpr std::size_t max_message = 64 * 1024;

struct Message {
  enum class Kind : std::uint8_t { request, notification, result, error };
  Kind kind;
  JsonDocument document;
  std::string id{};       ///< JSON text of the id, given back as it came; empty in notifications
  std::string method{};   ///< of requests and notifications
  JsonView params{};      ///< of requests and notifications; lives as long as `document`
  JsonView result{};      ///< of results
  Error failure{};        ///< of errors: word, sentence, far, rule, at
  JsonView error_data{};  ///< of errors: the whole `data`
};

/// BAD_REQUEST for what is no JSON-RPC 2.0 message of ours (batches included). `id_of_bad` receives the id
/// when the text was JSON with a usable one, so that its sender can be told.
Result<Message> decode(std::string_view text, std::string* id_of_bad = nullptr);

/// `params` and `result` are JSON texts of objects.
std::string request(std::string_view id, std::string_view method, std::string_view params);
std::string notification(std::string_view method, std::string_view params);
std::string result(std::string_view id, std::string_view result);
/// code -32000, or -32700/-32600/-32601 where JSON-RPC has its own; `extra` is JSON text of further members
/// of `data`, without braces.
std::string error(std::string_view id, const Error& failure, std::string_view extra = {}, int code = -32000);

}  // namespace ipc::rpc
