#include "ipc/rpc.hh"

namespace ipc::rpc {
namespace {
/// Ids are strings or integers, and short: they are kept while a request is under way.
std::string id_text(JsonView id) {
  constexpr std::size_t longest_id = 128;
  if (!id.is_string() && !id.integer()) return {};
  auto text = id.text();
  return text.size() <= longest_id ? text : std::string{};
}

Error failure_of(JsonView error) {
  const auto data = error["data"];
  Error failure;
  failure.word = word_from(data["code"].string_or("INTERNAL")).value_or(Word::internal);
  failure.text = error["message"].string_or("(no message)");
  failure.rule = data["rule"].string_or("");
  failure.at = data["at"].string_or("");
  failure.far = data["far"].boolean_or(false);
  return failure;
}

Result<> decode_call(Message& message, JsonView root) {
  message.method = root["method"].string_or("");
  message.params = root["params"];
  if (message.method.empty()) return fail(Word::bad_request, "the method is no string or empty");
  if (message.params.exists() && !message.params.is_object())
    return fail(Word::bad_request, "params is no object");
  message.kind = root["id"].exists() ? Message::Kind::request : Message::Kind::notification;
  if (message.kind == Message::Kind::request && message.id.empty())
    return fail(Word::bad_request, "the id is neither an integer nor a string of up to 126 bytes");
  return {};
}

Result<> decode_answer(Message& message, JsonView root) {
  if (message.id.empty() && !root["id"].is_null()) return fail(Word::bad_request, "an answer without an id");
  message.result = root["result"];
  if (message.result.exists()) {
    message.kind = Message::Kind::result;
    return {};
  }
  if (!root["error"].is_object()) return fail(Word::bad_request, "a message without method, result or error");
  message.kind = Message::Kind::error;
  message.failure = failure_of(root["error"]);
  message.error_data = root["error"]["data"];
  return {};
}

void begin(JsonWriter& writer) { writer.object().add("jsonrpc", "2.0"); }
}  // namespace

Result<Message> decode(std::string_view text, std::string* id_of_bad) {
  Message message{.kind = Message::Kind::request, .document = TRY(JsonDocument::parse(text))};
  const auto root = message.document.root();
  if (!root.is_object())
    return fail(Word::bad_request, "a message that is no JSON object (batches are not accepted)");
  message.id = id_text(root["id"]);
  if (id_of_bad != nullptr) *id_of_bad = message.id;
  if (root["jsonrpc"].string_or("") != "2.0") return fail(Word::bad_request, "jsonrpc is not \"2.0\"");
  TRY(root["method"].exists() ? decode_call(message, root) : decode_answer(message, root));
  return message;
}

std::string request(std::string_view id, std::string_view method, std::string_view params) {
  std::string text;
  JsonWriter writer{text};
  begin(writer);
  writer.key("id").raw(id).add("method", method).key("params").raw(params).end();
  return text;
}

std::string notification(std::string_view method, std::string_view params) {
  std::string text;
  JsonWriter writer{text};
  begin(writer);
  writer.add("method", method).key("params").raw(params).end();
  return text;
}

std::string result(std::string_view id, std::string_view value) {
  std::string text;
  JsonWriter writer{text};
  begin(writer);
  writer.key("id").raw(id).key("result").raw(value).end();
  return text;
}

std::string error(std::string_view id, const Error& failure, std::string_view extra, int code) {
  std::string text;
  JsonWriter writer{text};
  begin(writer);
  writer.key("id").raw(id.empty() ? "null" : id).key("error").object().add("code", std::int64_t{code});
  writer.add("message", failure.text).key("data").object().add("code", to_string(failure.word));
  writer.add_if("rule", failure.rule).add_if("at", failure.at);
  if (failure.far) writer.add("far", true);
  if (!extra.empty()) writer.raw(extra);
  writer.end().end().end();
  return text;
}
}  // namespace ipc::rpc
