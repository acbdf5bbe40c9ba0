#include "plumberd/helper.hh"

#include <algorithm>

#include "ipc/name.hh"
#include "ipc/secret.hh"

namespace plumberd {
namespace {
constexpr ipc::Milliseconds hello_deadline{5'000};
constexpr ipc::Milliseconds relisten_pause{2000};
constexpr ipc::Milliseconds first_rest{100};
constexpr std::size_t most_dials = 16'384;
constexpr ipc::Milliseconds longest_grace{500};
constexpr unsigned most_log_lines = 100;  // a second
constexpr std::size_t longest_sentence = 1024;

/// The helper keeps the deadline itself and says what it waited for. It is told a little less than there is,
/// so that one which does not answer at all makes nobody late either.
ipc::Milliseconds told_deadline(ipc::Milliseconds deadline) {
  return std::max(deadline - std::min(deadline / 10, longest_grace), ipc::Milliseconds{1});
}

std::string dial_params(std::uint64_t id, const DialOrder& order) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add("id", static_cast<std::int64_t>(id)).add("uri", order.uri);
  if (order.service) json.add("service", *order.service);
  json.add("hops", std::int64_t{order.hops})
      .add("judge", order.judge)
      .add("deadline_ms", told_deadline(order.deadline).count());
  if (order.framing != "bytes") json.add("framing", order.framing);
  if (!order.claims.empty()) json.add("claims", order.claims);
  if (!order.addresses.empty()) {
    json.key("addresses").array();
    for (const auto& address : order.addresses) json.string(address);
    json.end();
  }
  if (order.connected) json.add("fd", std::int64_t{0});
  if (order.ktls) json.add("ktls", true);
  if (order.onward) json.add("onward", true);
  json.key("settings").raw(order.settings.empty() ? "{}" : order.settings).end();
  return text;
}

std::string listen_params(std::uint64_t id, const Listen& listen, const std::string& uri,
                          const std::string& settings, Helper::Share share) {
  std::string text;
  ipc::JsonWriter json{text};
  json.object().add("id", static_cast<std::int64_t>(id)).add("uri", uri);
  json.add_if("service", listen.service);
  if (share != Helper::Share::no) json.add("share", share == Helper::Share::first ? "first" : "join");
  json.key("settings").raw(settings).end();
  return text;
}

/// What "path" may say, in decisions and metrics too.
bool is_path(std::string_view word) {
  constexpr std::array<std::string_view, 4> words{"direct", "ktls", "ktls-relay", "relay"};
  return std::ranges::find(words, word) != words.end();
}

/// `result`: the members fd, path and labels of a message; `ktls`: whether that path may be taken.
ipc::Result<Dialled> dialled(ipc::Channel::Incoming& incoming, ipc::JsonView result, const HelperSpec& spec,
                             bool ktls) {
  auto fd = TRY(incoming.take_fd(result["fd"]));
  const auto socket = TRY(inspect_socket(fd.borrow()));
  if (!spec.exec.empty()) forget_timeouts(fd.borrow());  // our own leave none
  Dialled done{.fd = std::move(fd),
               .socket = socket,
               .path = std::string(result["path"].string_or("direct")),
               .labels = result["labels"].labels(),
               .onward = result["onward"].boolean_or(false) && !socket.peer};
  if (!is_path(done.path))
    return ipc::fail(ipc::Word::bad_request, "path is none of direct, ktls, ktls-relay, relay");
  if (done.path == "ktls" && !ktls)
    return ipc::fail(ipc::Word::bad_request, "path is ktls, for a client that did not ask for it");
  return done;
}

/// The channel knows only which message was not answered; what the helper says itself is foreign text.
ipc::Error about_helper(ipc::Error error, const std::string& name) {
  if (error.text == "dial was not answered in time") error.text = "the helper " + name + " did not answer";
  error.text = ipc::printable(error.text, longest_sentence);
  error.rule.clear();  // those are ours to name
  error.at.clear();
  return error;
}

Inbound inbound_of(ipc::JsonView params) {
  return {.listen = static_cast<std::uint64_t>(params["listen"].integer_or(0)),
          .service = std::string(params["service"].string_or("")),
          .labels = params["labels"].labels(),
          .hops = static_cast<unsigned>(std::clamp<std::int64_t>(params["hops"].integer_or(0), 0, 1000)),
          .framing = std::string(params["framing"].string_or("bytes")),
          .claims = params["claims"].labels(),
          .relays = static_cast<std::size_t>(std::max<std::int64_t>(params["relays"].integer_or(0), 0)),
          .onward = params["onward"].boolean_or(false)};
}

LogLevel level_from(std::string_view name) {
  if (name == "error") return LogLevel::error;
  if (name == "debug") return LogLevel::debug;
  return name.starts_with("warn") ? LogLevel::warn : LogLevel::info;
}
}  // namespace

Helper::Helper(ipc::Loop& loop, Log& log, HelperSpec spec, Hooks hooks)
    : loop_{loop}, log_{log}, spec_{std::move(spec)}, hooks_{std::move(hooks)}, back_off_{first_rest} {}

Helper::~Helper() {
  *alive_ = false;
  release();
}

bool Helper::is_ready() const { return state_ == State::ready && channel_ && channel_->is_open(); }

/// Never inside of the caller's call: a start that fails calls back.
void Helper::start_soon() {
  if (state_ != State::idle) return;
  loop_.post([this, alive = alive_] {
    if (*alive && state_ == State::idle) start();
  });
}

std::string_view Helper::state() const {
  constexpr std::string_view names[] = {"idle", "starting", "ready", "resting"};
  return names[static_cast<std::size_t>(state_)];
}

// --- calls

std::uint64_t Helper::dial(DialOrder order, OnDialled done) {
  const auto id = next_dial_++;
  if (dials_.size() >= most_dials) {
    loop_.post([done = std::move(done), name = spec_.name] {
      done(ipc::fail(ipc::Word::busy, "the helper " + name + " has too many dials under way"));
    });
    return id;
  }
  auto& dial = dials_.emplace(id, Dial{std::move(order), std::move(done)}).first->second;
  dial.ends_at = loop_.now() + static_cast<std::uint64_t>(dial.order.deadline.count());
  is_ready() ? send_dial(id, dial) : wait_for_start(id, dial);
  start_soon();
  return id;
}

/// A helper that rests or does not get ready must not hold a request beyond its time.
void Helper::wait_for_start(std::uint64_t id, Dial& dial) {
  dial.waiting = ipc::Timer{
      loop_, dial.order.deadline, [this, id] {
        auto late = dials_.extract(id);
        if (late.empty()) return;
        const auto why = last_loss_.empty() ? "is not ready" : last_loss_;
        late.mapped().done(ipc::fail(ipc::Word::no_helper, "the helper " + spec_.name + " " + why));
      }};
}

void Helper::send_dial(std::uint64_t id, Dial& dial) {
  if (dial.waiting) {
    dial.waiting.stop();
    const auto now = loop_.now();
    dial.order.deadline = ipc::Milliseconds{dial.ends_at > now ? dial.ends_at - now : 1};
  }
  const int connected = dial.order.connected.borrow();
  const std::span<const int> fds{&connected, connected >= 0 ? 1U : 0U};
  auto params = dial_params(id, dial.order);
  dial.call = channel_->call(
      "dial", params, fds, dial.order.deadline,
      [this, id](ipc::Result<ipc::Channel::Incoming> answer) { finish_dial(id, std::move(answer)); });
  ipc::wipe_secrets(params);
  ipc::wipe_secrets(dial.order.uri);
  dial.order.connected = ipc::Fd{};
}

void Helper::finish_dial(std::uint64_t id, ipc::Result<ipc::Channel::Incoming> answer) {
  auto found = dials_.extract(id);
  if (found.empty()) return;
  auto& done = found.mapped().done;
  if (!answer && !channel_->is_open())
    return done(ipc::fail(ipc::Word::internal,
                          "the helper " + spec_.name + " went away while it dialled; try again"));
  if (!answer) return done(std::unexpected(about_helper(std::move(answer).error(), spec_.name)));
  auto result = dialled(*answer, answer->message.result, spec_, found.mapped().order.ktls);
  if (!result && result.error().word != ipc::Word::unreachable)
    return done(ipc::fail(ipc::Word::internal,
                          "the helper " + spec_.name + " answered a dial wrongly: " + result.error().text));
  done(std::move(result));
}

void Helper::cancel(std::uint64_t id) {
  auto found = dials_.extract(id);
  if (found.empty() || found.mapped().call == 0 || !channel_) return;
  channel_->forget(found.mapped().call);
  channel_->notify("cancel", "{\"id\":" + std::to_string(id) + "}");
}

void Helper::listen(std::uint64_t id, const Listen& listen, std::string settings, Share share,
                    OnListening done) {
  Listening wanted{listen, std::move(settings), share, std::move(done)};
  if (share == Share::join)
    wanted.actual = listen.uri;  // tried again after a crash, whatever comes of it now
  auto& listening = listens_.insert_or_assign(id, std::move(wanted)).first->second;
  if (is_ready()) send_listen(id, listening);
  start_soon();
}

void Helper::send_listen(std::uint64_t id, Listening& listening) {
  listening.retry.stop();
  const auto& uri = listening.actual.empty() ? listening.listen.uri : listening.actual;
  const auto settle = [this, id](ipc::Result<ipc::Channel::Incoming> answer) {
    const auto found = listens_.find(id);
    if (found == listens_.end()) return;
    auto done = std::exchange(found->second.done, nullptr);
    const auto result = answer ? answer->message.result : ipc::JsonView{};
    if (answer) found->second.actual = result["uri"].string_or(found->second.listen.uri);
    if (!answer) {
      answer = std::unexpected(about_helper(std::move(answer).error(), spec_.name));
      log_.error("cannot listen on " + ipc::mask_secrets(found->second.listen.uri) + ": " +
                 answer.error().text);
      // It may come to it later, when nobody expects it any more.
      if (is_ready() && answer.error().word == ipc::Word::timeout)
        channel_->notify("unlisten", "{\"id\":" + std::to_string(id) + "}");
    }
    // After a restart of the helper the port may be somebody else's for a while.
    if (!answer && !done && is_ready())
      found->second.retry = ipc::Timer{loop_, relisten_pause, [this, id] { listen_again(id); }};
    if (!done) return;
    if (found->second.share == Helper::Share::first)
      found->second.share = Helper::Share::join;  // after a crash
    if (answer) return done(Listened{found->second.actual, result["shared"].boolean_or(false)});
    listens_.erase(found);
    done(std::unexpected(answer.error()));
  };
  channel_->call("listen", listen_params(id, listening.listen, uri, listening.settings, listening.share), {},
                 hello_deadline, settle);
}

void Helper::listen_again(std::uint64_t id) {
  const auto found = listens_.find(id);
  if (found == listens_.end()) return;
  if (is_ready()) send_listen(id, found->second);
}

/// Who still waits for the listener may hold the last reference to this helper: that ends in a turn of its
/// own.
void Helper::unlisten(std::uint64_t id) {
  auto gone = listens_.extract(id);
  if (gone.empty()) return;
  loop_.post([done = std::move(gone.mapped().done)] {});
  if (is_ready()) channel_->notify("unlisten", "{\"id\":" + std::to_string(id) + "}");
}

void Helper::relay(ipc::Fd a, ipc::Fd b, std::string_view framing) {
  if (!is_ready()) return;
  std::string params;
  ipc::JsonWriter{params}
      .object()
      .add("a", std::int64_t{0})
      .add("b", std::int64_t{1})
      .add("framing", framing)
      .end();
  const std::array fds{a.borrow(), b.borrow()};
  channel_->notify("relay", params, fds);
}

void Helper::configure(std::string settings, std::uint64_t generation) {
  settings_ = std::move(settings);
  generation_ = generation;
  if (is_ready()) send_configuration();
}

void Helper::send_configuration() {
  channel_->notify("configure",
                   "{\"generation\":" + std::to_string(generation_) + ",\"settings\":" + settings_ + "}");
}

// --- what the helper says

void Helper::on_request(ipc::Channel::Incoming incoming) {
  const auto& method = incoming.message.method;
  if (method == "judge") return judge(incoming);
  if (method == "accepted") return admit(std::move(incoming));
  const auto id = incoming.message.id;
  on_notification(std::move(incoming));  // the rest needs no answer; a helper that wants one gets it
  if (channel_ && channel_->is_open()) channel_->answer(id, "{}");
}

void Helper::on_notification(ipc::Channel::Incoming incoming) {
  const auto params = incoming.message.params;
  const auto& method = incoming.message.method;
  if (method == "hello") return on_hello(incoming.message);
  if (method == "log") return say(params);
  if (method == "failed") return tell_failed(params);
  if (method == "relayed") return count_relayed(params);
  if (method == "void") return hooks_.on_void(std::string(params["token"].string_or("")));
  if (method != "deliver") return;
  auto connection = dialled(incoming, params, spec_, true);
  const std::string token{params["token"].string_or("")};
  if (!connection && connection.error().word == ipc::Word::unreachable) return hooks_.on_void(token);
  if (!connection) return log_.warn(spec_.name + ": deliver: " + connection.error().text);
  hooks_.on_deliver({.token = token,
                     .fd = std::move(connection->fd),
                     .socket = connection->socket,
                     .path = std::move(connection->path),
                     .first = params["first"].text()});
}

/// A helper in a loop must not fill the disk.
bool Helper::may_say() {
  if (const auto second = loop_.now() / 1000; std::exchange(log_second_, second) != second) log_lines_ = 0;
  if (++log_lines_ == most_log_lines + 1)
    log_.warn(spec_.name + ": says too much; the rest of this second is left out");
  return log_lines_ <= most_log_lines;
}

void Helper::say(ipc::JsonView params) {
  if (!may_say()) return;
  log_.say(level_from(params["level"].string_or("")),
           spec_.name + ": " + ipc::printable(params["message"].string_or(""), longest_sentence));
}

void Helper::tell_failed(ipc::JsonView params) {
  auto inbound = inbound_of(params);
  if (!listens_.contains(inbound.listen) || !may_say()) return;
  hooks_.on_failed(std::move(inbound),
                   {.word = ipc::word_from(params["code"].string_or("")).value_or(ipc::Word::unreachable),
                    .text = ipc::printable(params["message"].string_or(""), longest_sentence)});
}

/// Totals of this process, which only grow; anything else is not believed.
void Helper::count_relayed(ipc::JsonView params) {
  constexpr std::int64_t most = (1LL << 53) - 1;
  const auto grown = [&](std::uint64_t& seen, std::string_view member) {
    const auto said = params[member].integer_or(0);
    if (said > most || said <= static_cast<std::int64_t>(seen)) return std::uint64_t{0};
    const auto now = static_cast<std::uint64_t>(said);
    return now - std::exchange(seen, now);
  };
  const Relayed more{.received = grown(relayed_.received, "received"), .sent = grown(relayed_.sent, "sent")};
  if (more.received > 0 || more.sent > 0) hooks_.on_relayed(spec_.name, more);
}

void Helper::judge(const ipc::Channel::Incoming& incoming) {
  const auto found = dials_.find(static_cast<std::uint64_t>(incoming.message.params["dial"].integer_or(0)));
  if (found == dials_.end() || !found->second.order.on_judge)
    return channel_->refuse(incoming.message.id, {ipc::Word::bad_request, "there is no such dial to judge"});
  const auto allowed = found->second.order.on_judge(incoming.message.params["addresses"].strings());
  std::string result;
  ipc::JsonWriter json{result};
  json.object().key("allowed").array();
  for (const auto& address : allowed) json.string(address);
  json.end().end();
  channel_->answer(incoming.message.id, result);
}

void Helper::admit(ipc::Channel::Incoming incoming) {
  auto inbound = inbound_of(incoming.message.params);
  if (!listens_.contains(inbound.listen))
    return channel_->refuse(incoming.message.id,
                            {ipc::Word::bad_request, "there is no such listener of this helper"});
  // A helper that was started anew in between would take the answer for one to a question of its own.
  const auto answer = [this, alive = alive_, lives = restarts_,
                       id = incoming.message.id](ipc::Result<Admission> admission) {
    if (!*alive || lives != restarts_ || !channel_ || !channel_->is_open()) return;
    if (!admission) return channel_->refuse(id, admission.error());
    const int fd = admission->fd.borrow();
    channel_->answer(id, admission->result, {&fd, fd >= 0 ? 1U : 0U});
  };
  hooks_.on_accepted(std::move(inbound), answer);
}

void Helper::on_hello(const ipc::rpc::Message& message) {
  if (state_ != State::starting) return;
  if (message.params["protocol"].integer_or(0) != 1) return lost("speaks another protocol than 1");
  state_ = State::ready;
  timer_.stop();
  send_configuration();
  for (auto& [id, listening] : listens_) send_listen(id, listening);
  for (auto& [id, dial] : dials_)
    if (dial.call == 0) send_dial(id, dial);
}

}  // namespace plumberd
