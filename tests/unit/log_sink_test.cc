// Whoever reads the log may be slow, or stand still: nobody waits for that, and nothing is cut.
#include "plumberd/log_sink.hh"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "tests/e2e/kit.hh"

using namespace plumberd;
using namespace std::chrono_literals;

namespace {
struct Ends {
  ipc::Fd read, write;
};

Ends pipe_ends() {
  int raw[2];
  cr_assert_eq(::pipe2(raw, O_CLOEXEC), 0);
  return {ipc::Fd{raw[0]}, ipc::Fd{raw[1]}};
}

Ends socket_ends() {
  auto [a, b] = kit::must(ipc::socket_pair(SOCK_STREAM));
  for (const auto* end : {&a, &b}) kit::must(ipc::set_blocking(end->borrow(), true));
  return {std::move(a), std::move(b)};
}

std::string line(int number) {
  auto text = std::to_string(number);
  return text + std::string(99 - text.size(), '.') + "\n";
}

std::string lines(int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += line(i);
  return all;
}

std::string read_all_of(const ipc::Fd& end, std::size_t size) {
  std::string all(size, '\0');
  std::size_t got = 0;
  for (ssize_t count = 1; got < size && count > 0;
       got += static_cast<std::size_t>(std::max<ssize_t>(count, 0)))
    count = ::read(end.borrow(), all.data() + got, size - got);
  all.resize(got);
  return all;
}

/// Reads in turns of the loop until `size` bytes came.
std::string read_in(ipc::Loop& loop, const ipc::Fd& end, std::size_t size) {
  std::string all;
  std::array<char, 10'000> part;
  const auto look = [&] {
    while (all.size() < size && kit::is_readable(end.borrow(), 0ms))
      all.append(part.data(), static_cast<std::size_t>(::read(end.borrow(), part.data(), part.size())));
    if (all.size() >= size) loop.stop();
  };
  const ipc::Timer reader{loop, 0ms, look, 1ms};
  const ipc::Timer limit{loop, 20s, [&] { loop.stop(); }};
  loop.run();
  return all;
}
}  // namespace

Test(log_sink, keeps_what_a_reader_who_stands_still_will_read_later) {
  for (auto make : {pipe_ends, socket_ends}) {
    const auto ends = make();
    LogSink sink{ends.write.borrow(), [](std::uint64_t) { kit::give_up("something was lost"); }};
    ipc::Loop loop;
    sink.attach(loop);
    for (int i = 0; i < 5000; ++i) sink.write(line(i));
    cr_assert_eq(read_in(loop, ends.read, 500'000), lines(5000));
    sink.write("now\n");
    cr_assert_eq(read_in(loop, ends.read, 4), "now\n");
    sink.detach();
  }
}

Test(log_sink, loses_whole_lines_beyond_its_bound_and_counts_them) {
  const auto ends = pipe_ends();
  std::uint64_t lost = 0;
  LogSink sink{ends.write.borrow(), [&](std::uint64_t count) {
                 lost = count;
                 sink.write("lost\n");
               }};
  ipc::Loop loop;
  sink.attach(loop);
  for (int i = 0; i < 20'000; ++i) sink.write(line(i));
  std::size_t got = 0;
  std::string all;
  while (all.find("lost\n") == all.npos) {
    all += read_in(loop, ends.read, 1);
    cr_assert_gt(all.size(), std::exchange(got, all.size()));
  }
  const auto kept = static_cast<int>(20'000 - lost);
  cr_assert(kept >= 10'000 && lost > 0);
  cr_assert_eq(all, lines(kept) + "lost\n");
  sink.detach();
}

Test(log_sink, lets_go_of_what_it_keeps_at_its_end_or_with_the_next_line) {
  const auto ends = pipe_ends();
  std::string all;
  std::thread reader;
  {
    LogSink sink{ends.write.borrow(), [](std::uint64_t) {}};
    for (int i = 0; i < 2000; ++i) sink.write(line(i));
    reader = std::thread{[&] { all = read_all_of(ends.read, 200'000); }};
  }
  reader.join();
  cr_assert_eq(all, lines(2000));
}

Test(log_sink, goes_on_when_nobody_reads_any_more) {
  std::signal(SIGPIPE, SIG_IGN);
  for (auto make : {pipe_ends, socket_ends}) {
    auto ends = make();
    LogSink sink{ends.write.borrow(), [](std::uint64_t) {}};
    ipc::Loop loop;
    sink.attach(loop);
    for (int i = 0; i < 5000; ++i) sink.write(line(i));
    ends.read = ipc::Fd{};
    loop.run();  // to its end: nothing is waited for any more
    sink.write("more\n");
    sink.detach();
  }
}
