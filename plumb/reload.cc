// plumb reload, plumb confirm: changing the router's configuration.
#include "ipc/name.hh"
#include "plumb/output.hh"

namespace plumb {
namespace {
constexpr int refused_reload = 7;
constexpr std::size_t longest_line = 4096;

void complain_each(const std::vector<std::string>& diagnostics) {
  for (const auto& diagnostic : diagnostics)
    for (std::size_t begin = 0;
         begin <= diagnostic.size();) {  // several lines each: the place, the line, a mark
      const auto end = std::min(diagnostic.find('\n', begin), diagnostic.size());
      complain(ipc::printable(std::string_view(diagnostic).substr(begin, end - begin), longest_line));
      begin = end + 1;
    }
}

int show_generation(const Request& request, ipc::JsonView result) {
  put_line(request.json ? result.text() : "generation " + std::to_string(result["generation"].integer_or(0)));
  return 0;
}
}  // namespace

int run_reload(const Request& request) {
  const bool confirm = request.confirm_seconds > 0;
  const auto params =
      confirm ? "{\"confirm\":" + std::to_string(request.confirm_seconds) + "}" : std::string{"{}"};
  const auto asked = ask_router(request, "reload", params);
  if (!asked.ok()) {
    const auto status = fail_with(request, asked);
    const auto errors = asked.answer ? asked.answer->message.error_data["errors"] : ipc::JsonView{};
    if (!request.json) complain_each(errors.strings());
    return errors.is_array() ? refused_reload : status;
  }
  const auto result = asked.answer->message.result;
  if (!request.json) complain_each(result["warnings"].strings());
  if (confirm && !request.json)
    complain("`plumb confirm` keeps it; without, the old configuration is back in " +
             std::to_string(request.confirm_seconds) + " s");
  return show_generation(request, result);
}

int run_confirm(const Request& request) {
  const auto asked = ask_router(request, "confirm", "{}");
  return asked.ok() ? show_generation(request, asked.answer->message.result) : fail_with(request, asked);
}
}  // namespace plumb
