// The built-in service plumberd.metrics: HTTP on a UNIX socket in the run directory, for Prometheus. A raw
// [[listen]] with service = "plumberd.metrics" exposes it to other hosts.
#pragma once
#include <list>
#include <memory>

#include "plumberd/acceptor.hh"
#include "plumberd/router.hh"

namespace plumberd {

class MetricsDoor {
 public:
  MetricsDoor(Router& router, ipc::Fd listener);
  ~MetricsDoor();

 private:
  struct Scrape;
  void admit(ipc::StrangerFd socket);
  void read(Scrape& scrape);
  void write(Scrape& scrape);
  void end(Scrape& scrape);
  Router& router_;
  std::list<std::unique_ptr<Scrape>> scrapes_;
  Acceptor acceptor_;
};

/// The whole HTTP/1.0 answer to a request head (RFC 9110): 200 with the metrics for GET or HEAD of /metrics
/// or /, else 404 or 405. Pure.
std::string http_answer(std::string_view head, const std::string& metrics);

}  // namespace plumberd
