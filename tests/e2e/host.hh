// A host of the tests: one router with its run directory, its door, and the words to talk to it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tests/e2e/kit.hh"

namespace kit {

class Host {
 public:
  /// Starts plumberd with `arguments`; returns when its native door answers.
  explicit Host(std::vector<std::string> arguments = {}, std::string_view config = {});
  std::string rundir() const { return dir_ / "run"; }
  std::string operator/(std::string_view name) const { return rundir() + "/" + std::string(name); }
  Wire door() const { return Wire{*this / "plumberd"}; }
  /// A connection of another user (needs root; the run directory is opened to all).
  Wire door_as(unsigned uid) const;
  /// Other users can reach the run directory, which a test keeps to itself else.
  void open_to_all() const;
  Process& router() { return router_; }
  pid_t router_pid() const { return router_.pid(); }
  /// Connections to the native door, this question's included.
  std::int64_t sessions() const;
  /// Replaces the configuration file given at the start.
  void write_config(std::string_view text) const { write_file(config_path(), text); }
  std::string config_path() const { return dir_ / "plumberd.toml"; }
  /// The actual port of the first listener.
  std::uint16_t port() const;
  /// "tcp://127.0.0.1:PORT/SERVICE" of the first listener.
  std::string uri(std::string_view service) const;
  /// The process of the helper `name`; fails the test when it does not run.
  pid_t helper(std::string_view name) const;
  /// The result of `status`.
  Wire::Datagram status() const;

 private:
  TempDir dir_;
  Process router_;
};

/// A service on a host: a registered native-door connection.
class Offer {
 public:
  Offer(const Host& host, std::string_view service, bool shared = false);
  /// The next connection that was passed on, with its labels.
  std::pair<ipc::Fd, ipc::Labels> accept();
  Wire& wire() { return wire_; }

 private:
  Wire wire_;
};

/// JSON text {"service": ..., "networkd": ...}.
std::string ask(std::string_view service, std::string_view networkd = {});
/// Writes `text` into one socket and expects it out of the other, both ways.
void expect_joined(int a, int b);

}  // namespace kit
