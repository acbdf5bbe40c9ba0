// The floor: the least that a relay between plain bytes and TLS can be. One thread, epoll, a buffer for each
// direction while bytes are under way; no configuration, names, deadlines, limits, log or errors.
//
//   tls-bench floor --unix PATH --port PORT --ca FILE     UNIX clients to a TLS server (what a dial is); with
//                                                         --resume 1 each resumes the newest session
//   tls-bench floor --port PORT --ca FILE                  the same as helper of the bare broker (bench
//   floor) tls-bench floor --unix PATH --pem FILE                TLS clients to a UNIX service (what a
//   listener is);
//                                                         prints its port
#include <fcntl.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <csignal>
#include <cstdio>

#include "tests/bench/tls/tls.hh"

namespace bench::tls {
namespace {

constexpr std::size_t room = 64 * 1024;

/// Bytes on their way in one direction.
struct Half {
  std::unique_ptr<char[]> buffer;
  std::size_t begin = 0, end = 0;
  bool ended = false;
};

struct Flow {
  ipc::Fd plain, cipher;
  Connection ssl;
  Half to_plain, to_cipher;
  std::uint32_t plain_events = 0, cipher_events = 0;
  bool shaken = false;
  int client = -1;  ///< whom the broker asked for
};

/// epoll hands back which descriptor of which flow it was: the flow's address, odd for the TLS side.
void* tag(Flow* flow, bool cipher) { return reinterpret_cast<char*>(flow) + (cipher ? 1 : 0); }

class Floor {
 public:
  explicit Floor(const Arguments& arguments)
      : path_{arguments.text("unix")},
        port_{arguments.text("port")},
        dials_{!port_.empty()},
        context_{dials_ ? client_context(arguments.text("ca")) : server_context(arguments.text("pem"))},
        epoll_{must(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")} {
    SSL_CTX_set_mode(context_.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                         SSL_MODE_RELEASE_BUFFERS);
    if (arguments.number("resume", 0) == 1) kept_.take_from(context_.get());
    // As tlsd has it, so that the two differ in nothing that OpenSSL does.
    SSL_CTX_set_ciphersuites(context_.get(), "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_options(context_.get(), SSL_OP_CIPHER_SERVER_PREFERENCE);
    std::uint16_t port = 0;
    is_helper_ = path_.empty();
    if (is_helper_) listener_ = ipc::Fd{job_channel};
    if (!is_helper_) listener_ = dials_ ? listen_unix(path_, SOCK_STREAM) : listen_tcp(&port, false);
    watch(listener_.borrow(), EPOLLIN, nullptr, EPOLL_CTL_ADD);
    std::printf("%u\n", port);
    std::fflush(stdout);
  }

  [[noreturn]] void run() {
    std::array<epoll_event, 64> events;
    for (;;) {
      const int count = ::epoll_wait(epoll_.borrow(), events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) serve(events[static_cast<std::size_t>(i)]);
      gone_.clear();
    }
  }

 private:
  void watch(int fd, std::uint32_t events, void* data, int operation) {
    epoll_event event{.events = events, .data = {.ptr = data}};
    must(::epoll_ctl(epoll_.borrow(), operation, fd, &event), "epoll_ctl");
  }

  void serve(const epoll_event& event) {
    if (event.data.ptr == nullptr) return is_helper_ ? take_job() : accept_one();
    auto address = reinterpret_cast<std::uintptr_t>(event.data.ptr);
    auto* flow = reinterpret_cast<Flow*>(address & ~std::uintptr_t{1});
    if (flow->cipher) step(*flow);
  }

  void accept_one() {
    ipc::Fd in{::accept4(listener_.borrow(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!in) return;
    const Way way{
        .kind = dials_ ? Way::Kind::tcp : Way::Kind::unix, .address = dials_ ? port_ : path_, .request = {}};
    auto out = Dialler{way}.dial();
    ::fcntl(out.borrow(), F_SETFL, O_NONBLOCK);
    auto* flow = new Flow{};
    flow->plain = std::move(dials_ ? in : out);
    begin(flow, std::move(dials_ ? out : in));
  }

  void take_job() {
    Job job;
    if (::recv(listener_.borrow(), &job, sizeof job, 0) <= 0) std::exit(0);
    auto out = Dialler{{.kind = Way::Kind::tcp, .address = port_, .request = {}}}.dial();
    ::fcntl(out.borrow(), F_SETFL, O_NONBLOCK);
    auto* flow = new Flow{};
    flow->client = job.client;
    begin(flow, std::move(out));
  }

  void begin(Flow* flow, ipc::Fd cipher) {
    flow->cipher = std::move(cipher);
    flow->ssl = on_socket(context_.get(), flow->cipher.borrow(), dials_);
    if (kept_.session) SSL_set_session(flow->ssl.get(), kept_.session.get());
    step(*flow);
  }

  void hand_out(Flow& flow) {
    int pair[2];
    must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
    flow.plain = ipc::Fd{pair[0]};
    ::fcntl(flow.plain.borrow(), F_SETFL, O_NONBLOCK);
    const ipc::Fd theirs{pair[1]};
    send_fd(listener_.borrow(), &flow.client, sizeof flow.client, theirs.borrow());
  }

  /// Carries what it can both ways, then asks epoll for what is missing.
  void step(Flow& flow) {
    std::uint32_t plain = 0, cipher = 0;
    if (!flow.shaken) {
      const int done = SSL_do_handshake(flow.ssl.get());
      if (done == 1) {
        flow.shaken = true;
        SSL_set_read_ahead(flow.ssl.get(), 1);
        SSL_set_default_read_buffer_len(flow.ssl.get(), room);
        if (is_helper_) hand_out(flow);
      } else if (!wants(flow, done, cipher))
        return drop(flow);
    }
    if (flow.shaken) {
      decrypt(flow, plain, cipher);
      encrypt(flow, plain, cipher);
      if (flow.to_plain.ended && flow.to_cipher.ended) return drop(flow);
    }
    wait_for(flow.plain.borrow(), flow.plain_events, plain, tag(&flow, false));
    wait_for(flow.cipher.borrow(), flow.cipher_events, cipher, tag(&flow, true));
  }

  /// A hang-up is reported of whatever is in the set, again and again: what nothing is wanted of is not.
  void wait_for(int fd, std::uint32_t& now, std::uint32_t wanted, void* data) {
    if (now == wanted) return;
    watch(fd, wanted, data, wanted == 0 ? EPOLL_CTL_DEL : now == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD);
    now = wanted;
  }

  static bool wants(const Flow& flow, int returned, std::uint32_t& events) {
    const int error = SSL_get_error(flow.ssl.get(), returned);
    if (error == SSL_ERROR_WANT_READ) events |= EPOLLIN;
    if (error == SSL_ERROR_WANT_WRITE) events |= EPOLLOUT;
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  }

  static void decrypt(Flow& flow, std::uint32_t& plain, std::uint32_t& cipher) {
    auto& half = flow.to_plain;
    while (!half.ended) {
      if (!half.buffer) half.buffer = std::make_unique_for_overwrite<char[]>(room);
      bool waits = false;
      while (half.begin == 0 && half.end < room && !waits && !half.ended) {
        std::size_t got = 0;
        const int done = SSL_read_ex(flow.ssl.get(), half.buffer.get() + half.end, room - half.end, &got);
        half.end += got;
        if (done == 1) continue;
        waits = wants(flow, done, cipher);
        half.ended = !waits;
      }
      while (half.begin < half.end) {
        const auto put =
            ::send(flow.plain.borrow(), half.buffer.get() + half.begin, half.end - half.begin, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN) {
          plain |= EPOLLOUT;
          half.ended = false;
          return;
        }
        half.begin = put < 0 ? half.end : half.begin + static_cast<std::size_t>(put);
      }
      half.begin = half.end = 0;
      if (half.ended) ::shutdown(flow.plain.borrow(), SHUT_WR);
      if (!waits) continue;
      half.buffer.reset();
      return;
    }
  }

  static void encrypt(Flow& flow, std::uint32_t& plain, std::uint32_t& cipher) {
    auto& half = flow.to_cipher;
    while (!half.ended) {
      if (!half.buffer) half.buffer = std::make_unique_for_overwrite<char[]>(room);
      if (half.begin == half.end) {
        const auto got = ::recv(flow.plain.borrow(), half.buffer.get(), room, 0);
        if (got < 0 && errno == EAGAIN) {
          plain |= EPOLLIN;
          half.buffer.reset();
          return;
        }
        half.begin = 0;
        half.end = got > 0 ? static_cast<std::size_t>(got) : 0;
        half.ended = got <= 0;
      }
      while (half.begin < half.end) {
        std::size_t put = 0;
        const int done =
            SSL_write_ex(flow.ssl.get(), half.buffer.get() + half.begin, half.end - half.begin, &put);
        half.begin += put;
        if (done == 1) continue;
        if (wants(flow, done, cipher)) return;
        half.ended = true;
        break;
      }
    }
    SSL_shutdown(flow.ssl.get());
    ::shutdown(flow.cipher.borrow(), SHUT_WR);
  }

  void drop(Flow& flow) {
    flow.plain = ipc::Fd{};
    flow.cipher = ipc::Fd{};
    gone_.emplace_back(&flow);  // other events of this turn may name it
  }

  std::string path_, port_;
  bool dials_;
  bool is_helper_ = false;
  Kept kept_;
  Context context_;
  ipc::Fd epoll_, listener_;
  std::vector<std::unique_ptr<Flow>> gone_;
};

}  // namespace

int floor_main(const std::vector<std::string>& words) {
  std::signal(SIGPIPE, SIG_IGN);
  Floor{Arguments{words}}.run();
}

}  // namespace bench::tls
