// What people and scripts are shown.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "plumb/command.hh"

namespace plumb {

/// Writes to standard output, all of it; a closed or full output ends the program as it does for any other
/// (SIGPIPE) or with status 9.
void put(std::string_view text);
/// The same with a newline.
void put_line(std::string_view text);
/// "plumb: TEXT" on standard error.
void complain(std::string_view text);

/// Tells a failure (one JSON value with `--json`, else a line on standard error) and gives the exit status of
/// its word. `data` is the `data` of the router's error, where it has more to say.
int fail_with(const Request& request, const ipc::Error& failure, ipc::JsonView data = {});
/// The same for usage errors, before there is a Request.
int fail_usage(bool json, std::string_view text);

/// Rows of cells, aligned; the last cell of a row is not padded.
std::string aligned(const std::vector<std::vector<std::string>>& rows);
/// "0.42 ms"; "12 ms"; "1.3 s".
std::string shown_ms(double ms);
/// The user's name, or the number where it has none.
std::string user_name(std::int64_t uid);

/// Opens the native door and asks one thing. The `data` of refusals is kept in `answer.message`.
struct Asked {
  ipc::Result<ipc::Door::Incoming> answer;
  bool ok() const;
};
Asked ask_router(const Request& request, std::string_view method, std::string_view params);
/// Tells why `asked` is not ok.
int fail_with(const Request& request, const Asked& asked);

}  // namespace plumb
