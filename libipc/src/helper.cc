#include "ipc/helper.hh"

#include <algorithm>
#include <array>
#include <cstdio>

#include "ipc/base64.hh"

namespace ipc {
namespace {
constexpr std::size_t most_dials = 16'384;  // far above what a router lets through
// A router that is busy for a moment must not cost it its helper.
constexpr ChannelLimits channel_limits{
    .queued_messages = 2 * most_dials, .queued_bytes = 64 * 1024 * 1024, .unread_fds = 2 * most_dials};
// What peers can make us say: as many lines at once, and one more every so many milliseconds.
constexpr int most_log_lines = 100;
constexpr std::uint64_t log_interval = 100;

std::string list_of(const std::vector<Address>& addresses) {
  std::string text;
  JsonWriter writer{text};
  writer.array();
  for (const auto& address : addresses) writer.string(to_string(address));
  writer.end();
  return text;
}

std::string hello(const Scheme& scheme) {
  std::string params;
  JsonWriter writer{params};
  writer.object().add("protocol", std::int64_t{1}).key("schemes").array();
  for (const auto& name : scheme.schemes()) writer.string(name);
  writer.end().end();
  return params;
}

/// Those of `asked` that the router allows, in its order: an address we did not ask about is none of ours.
Result<std::vector<Address>> allowed_of(Result<Channel::Incoming> answer, const std::vector<Address>& asked) {
  if (!answer) return std::unexpected(std::move(answer).error());
  const auto list = answer->message.result["allowed"];
  std::vector<Address> allowed;
  for (const auto element : list) {
    const auto address = parse_address(element.string_or(""));
    if (address && std::ranges::find(asked, *address) != asked.end()) allowed.push_back(*address);
  }
  if (allowed.empty()) return fail(Word::denied, "no address of the name may be connected to");
  return allowed;
}

Result<Admission> admission_of(Result<Channel::Incoming> answer) {
  if (!answer) return std::unexpected(std::move(answer).error());
  const auto result = answer->message.result;
  const auto mode = result["mode"].string_or("");
  const bool has_token = result["token"].exists() && !result["token"].is_null();
  if (mode != "deliver" && mode != "relay") return fail(Word::internal, "the router answered without a mode");
  if (mode == "relay")
    return Admission{.relays = true,
                     .service = TRY(answer->take_fd(result["fd"])),
                     .onward = result["onward"].boolean_or(false)};
  if (!has_token) return fail(Word::internal, "the router answered without a token");
  return Admission{.token = result["token"].text(), .ktls = result["ktls"].boolean_or(false)};
}
}  // namespace

Question& Question::operator=(Question&& from) noexcept {
  std::swap(channel_, from.channel_);
  std::swap(call_, from.call_);
  return *this;
}

Question::~Question() {
  if (channel_ != nullptr) channel_->forget(call_);
}

Helper::Helper(Loop& loop, Fd channel, Scheme& scheme)
    : loop_{loop}, scheme_{scheme}, carried_{loop, [this](const Carried&) { tell_carried(); }} {
  Channel::Handlers handlers{
      .on_request = [this](Channel::Incoming incoming) { on_request(std::move(incoming)); },
      .on_notification = [this](Channel::Incoming incoming) { on_notification(std::move(incoming)); },
      .on_closed = [this](const Error&) { end(); }};
  channel_ = std::make_unique<Channel>(loop_, StrangerFd{std::move(channel), SOCK_SEQPACKET},
                                       std::move(handlers), channel_limits);
  channel_->notify("hello", hello(scheme_));
}

Helper::~Helper() {
  dials_.clear();
  listeners_.clear();
  relays_.clear();
  scheme_.end();
}

void Helper::on_request(Channel::Incoming incoming) {
  if (incoming.message.method == "dial") return on_dial(std::move(incoming));
  if (incoming.message.method == "listen") return on_listen(std::move(incoming));
  channel_->refuse(incoming.message.id, Error{Word::bad_request, "no such method"}, {}, -32601);
}

void Helper::on_notification(Channel::Incoming incoming) {
  const auto& method = incoming.message.method;
  const auto params = incoming.message.params;
  if (method == "configure") return scheme_.configure(*this, params["settings"]);
  if (method == "cancel") return on_cancel(params);
  if (method == "unlisten") return static_cast<void>(listeners_.erase(params["id"].text()));
  if (method == "relay") return on_relay(std::move(incoming));
  // What a newer router says beyond that is not for us.
}

void Helper::on_dial(Channel::Incoming incoming) {
  auto request = parse_dial(incoming);
  if (!request) return channel_->refuse(incoming.message.id, request.error());
  auto refuse = [&](Word word, std::string why) {
    channel_->refuse(request->incoming.message.id, Error{word, std::move(why)});
  };
  if (dials_.size() >= most_dials) return refuse(Word::busy, "too many dials are under way");
  auto id = request->id;
  if (dials_.contains(id)) return refuse(Word::bad_request, "a dial with this id is under way");
  const auto slot = dials_.emplace(std::move(id), scheme_.dial(*this, std::move(*request))).first;
  slot->second->start();
}

void Helper::finish_dial(const DialRequest& request, Result<DialAnswer> answer) {
  const auto& id = request.incoming.message.id;
  if (answer) {
    std::string result;
    result.reserve(answer->labels.size() + 64);
    JsonWriter writer{result};
    writer.object().add("fd", std::int64_t{0}).add("path", answer->path);
    if (answer->onward) writer.add("onward", true);
    writer.key("labels").raw(answer->labels).end();
    const int fd = answer->fd.borrow();
    channel_->answer(id, result, std::span{&fd, 1});
  } else {
    channel_->refuse(id, answer.error());
  }
  const auto dial = dials_.extract(request.id);
}

void Helper::on_cancel(JsonView params) {
  const auto found = dials_.find(params["id"].text());
  if (found == dials_.end()) return;
  found->second->cancel();
}

void Helper::on_listen(Channel::Incoming incoming) {
  auto request = parse_listen(incoming);
  if (!request) return channel_->refuse(incoming.message.id, request.error());
  const auto reply_to = request->incoming.message.id;
  const auto id = request->id;
  if (listeners_.contains(id))
    return channel_->refuse(reply_to, Error{Word::bad_request, "a listen with this id exists"});
  auto listener = scheme_.listen(*this, std::move(*request));
  if (!listener) return channel_->refuse(reply_to, listener.error());
  std::string result;
  JsonWriter writer{result};
  writer.object().add("uri", (*listener)->uri());
  if ((*listener)->is_shared()) writer.add("shared", true);
  writer.end();
  listeners_.emplace(id, std::move(*listener));
  channel_->answer(reply_to, result);
}

void Helper::on_relay(Channel::Incoming incoming) {
  const auto begun = begin_relay(incoming);
  if (!begun) log("error", "relay: " + begun.error().text);
}

Result<> Helper::begin_relay(Channel::Incoming& incoming) {
  const auto params = incoming.message.params;
  auto a = TRY(incoming.take_fd(params["a"]));
  auto b = TRY(incoming.take_fd(params["b"]));
  const auto framing = framing_from(params["framing"].exists() ? params["framing"].string_or("") : "bytes");
  if (!framing) return fail(Word::bad_request, "framing is none of bytes, ipc07, ipc1");
  const Milliseconds idle{std::max<std::int64_t>(params["idle_ms"].integer_or(0), 0)};
  const RelayOptions options{.framing = *framing, .idle = idle};
  if (scheme_.relay(*this, a, b, options)) return {};
  relay(socket_stream(std::move(a)), socket_stream(std::move(b)), options);
  return {};
}

void Helper::relay(std::unique_ptr<Stream> a, std::unique_ptr<Stream> b, RelayOptions options,
                   std::shared_ptr<void> counted) {
  const auto number = next_relay_++;
  const auto done = [this, number, counted = std::move(counted)](const RelayOutcome& outcome) {
    if (outcome.end == RelayOutcome::End::idle) log("info", "a relay was cut: it was idle for too long");
    relays_.erase(number);
    stop_if_done();
  };
  options.carried = &carried_;
  relays_.emplace(number, std::make_unique<Relay>(loop_, std::move(a), std::move(b), options, done));
}

/// Relays to `service` are one more as long as the result exists.
std::shared_ptr<void> Helper::count_relay(const std::string& service) {
  ++(*relays_to_)[service];
  return {relays_to_.get(), [counts = relays_to_, service](void*) {
            const auto found = counts->find(service);
            if (--found->second == 0) counts->erase(found);
          }};
}

Question Helper::judge(const DialRequest& request, const std::vector<Address>& addresses,
                       Milliseconds deadline, OnJudged on_judged) {
  std::string params;
  JsonWriter{params}.object().key("dial").raw(request.id).key("addresses").raw(list_of(addresses)).end();
  auto tell = [on_judged = std::move(on_judged), addresses](Result<Channel::Incoming> answer) {
    on_judged(allowed_of(std::move(answer), addresses));
  };
  return {*channel_, channel_->call("judge", params, {}, deadline, std::move(tell))};
}

Question Helper::ask_admission(const Arrival& arrival, Milliseconds deadline, OnAdmitted on_admitted) {
  std::string params;
  JsonWriter writer{params};
  writer.object().key("listen").raw(arrival.listen).add("service", arrival.hop.service);
  writer.key("labels").raw(arrival.labels).add("hops", std::int64_t{arrival.hop.hops});
  writer.add("framing", to_string(arrival.hop.framing));
  if (const auto relays = relays_to_->find(arrival.hop.service); relays != relays_to_->end())
    writer.add("relays", static_cast<std::int64_t>(relays->second));
  if (!arrival.hop.claims.empty()) writer.key("claims").raw(arrival.hop.claims);
  if (arrival.onward) writer.add("onward", true);
  writer.end();
  // A relay counts from the question on: many peers may ask at once.
  auto tell = [counted = count_relay(arrival.hop.service),
               on_admitted = std::move(on_admitted)](Result<Channel::Incoming> answer) mutable {
    auto admission = admission_of(std::move(answer));
    if (admission && admission->relays) admission->counted = std::move(counted);
    counted.reset();
    on_admitted(std::move(admission));
  };
  return {*channel_, channel_->call("accepted", params, {}, deadline, std::move(tell))};
}

void Helper::deliver(const std::string& token, Fd fd, std::string_view path,
                     const std::vector<std::string>& first) {
  std::string params;
  JsonWriter writer{params};
  writer.object().key("token").raw(token).add("fd", std::int64_t{0}).add("path", path);
  if (!first.empty()) {
    writer.key("first").array();
    for (const auto& datagram : first) writer.string(base64_encode(datagram));
    writer.end();
  }
  writer.end();
  const int raw = fd.borrow();
  if (channel_->notify("deliver", params, std::span{&raw, 1})) return;
  log("error", "an admitted connection could not be delivered: too much waits for the router");
  give_up(token);
}

void Helper::give_up(const std::string& token) {
  std::string params;
  JsonWriter{params}.object().key("token").raw(token).end();
  channel_->notify("void", params);
}

void Helper::tell_failed(const Failure& failure) {
  std::string params;
  JsonWriter{params}
      .object()
      .key("listen")
      .raw(failure.listen)
      .key("labels")
      .raw(failure.labels)
      .add("code", to_string(failure.error.word))
      .add("message", failure.error.text)
      .end();
  channel_->notify("failed", params);
}

void Helper::log(std::string_view level, std::string_view message) {
  const auto earned = (loop_.now() - log_since_) / log_interval;
  log_since_ += earned * log_interval;
  log_room_ =
      static_cast<int>(std::min<std::uint64_t>(most_log_lines, static_cast<unsigned>(log_room_) + earned));
  if (log_room_ == 0) return;
  --log_room_;
  if (!channel_->is_open()) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
    return;
  }
  std::string params;
  JsonWriter{params}.object().add("level", level).add("message", message).end();
  channel_->notify("log", params);
}

void Helper::tell_carried() {
  constexpr std::uint64_t most = (1ULL << 53) - 1;
  if (!channel_->is_open()) return;
  std::string params;
  JsonWriter{params}
      .object()
      .add("received", static_cast<std::int64_t>(std::min(carried_.received(), most)))
      .add("sent", static_cast<std::int64_t>(std::min(carried_.sent(), most)))
      .end();
  channel_->notify("relayed", params);
}

void Helper::end() {
  if (std::exchange(is_ending_, true)) return;
  listeners_.clear();
  channel_->close(Error{Word::internal, "the helper ends"});
  dials_.clear();
  stop_if_done();
}

void Helper::end_work() {
  --works_;
  stop_if_done();
}

void Helper::stop_if_done() {
  if (is_ending_ && relays_.empty() && works_ == 0) loop_.stop();
}
}  // namespace ipc
