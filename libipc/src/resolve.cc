#include "ipc/resolve.hh"

#include <netdb.h>

#include <algorithm>
#include <utility>

namespace ipc {
namespace {
int requests_under_way = 0;

std::vector<Address> addresses_in(const addrinfo* list) {
  std::vector<Address> found;
  for (const auto* entry = list; entry != nullptr && found.size() < most_addresses; entry = entry->ai_next) {
    const auto address = from_sockaddr(entry->ai_addr);
    if (address && std::ranges::find(found, address->first) == found.end()) found.push_back(address->first);
  }
  return found;
}
}  // namespace

std::vector<Address> addresses_without_resolver(const Uri& uri) {
  if (uri.address) return {*uri.address};
  if (!uri.is_localhost()) return {};
  return {*parse_address("127.0.0.1"), *parse_address("::1")};
}

struct Resolution::Request {
  uv_getaddrinfo_t handle{};
  OnAnswer on_answer{};  ///< empty: forgotten
  std::string host{};
  std::shared_ptr<Request> self{};  ///< set while the resolver holds the handle

  void finish(int status, const addrinfo* list) {
    if (!on_answer) return;
    auto addresses = addresses_in(list);
    const auto tell = std::move(on_answer);
    if (status == 0 && !addresses.empty()) return tell(std::move(addresses));
    const std::string why = status == 0 ? "it has no address" : uv_strerror(status);
    tell(fail(Word::unreachable, "cannot resolve " + host + ": " + why));
  }
};

Resolution::Resolution(Loop& loop, const std::string& host, OnAnswer on_answer)
    : request_{std::make_shared<Request>()} {
  request_->on_answer = std::move(on_answer);
  request_->host = host;
  request_->self = request_;
  request_->handle.data = request_.get();
  const auto answered = [](uv_getaddrinfo_t* handle, int status, addrinfo* list) {
    const auto request = std::exchange(static_cast<Request*>(handle->data)->self, nullptr);
    --requests_under_way;
    request->finish(status, list);
    uv_freeaddrinfo(list);
  };
  ++requests_under_way;
  const addrinfo hints{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  const int status = uv_getaddrinfo(loop.raw(), &request_->handle, answered, host.c_str(), nullptr, &hints);
  if (status == 0) return;
  --requests_under_way;
  request_->self.reset();
  loop.post([request = request_, status] { request->finish(status, nullptr); });
}

Resolution& Resolution::operator=(Resolution&& from) noexcept {
  forget();
  request_ = std::move(from.request_);
  return *this;
}

void Resolution::forget() {
  if (!request_) return;
  request_->on_answer = nullptr;
  if (request_->self) uv_cancel(reinterpret_cast<uv_req_t*>(&request_->handle));
  request_.reset();
}

int Resolution::under_way() { return requests_under_way; }
}  // namespace ipc
