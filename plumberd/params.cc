#include "plumberd/params.hh"

#include <array>

namespace plumberd {
namespace {
bool is_labels(ipc::JsonView value) {
  if (!value.is_object()) return false;
  for (auto i = value.begin(); i != value.end(); ++i)
    if (!(*++i).is_string()) return false;
  return true;
}

bool fits(ipc::JsonView value, Param::Type type) {
  switch (type) {
    case Param::Type::text:
      return value.is_string();
    case Param::Type::flag:
      return value.boolean().has_value();
    case Param::Type::count:
      return value.integer_or(-1) >= 0;
    case Param::Type::labels:
      return is_labels(value);
  }
  return false;
}
}  // namespace

ipc::Result<> check_params(ipc::JsonView params, std::span<const Param> expected) {
  constexpr std::array<std::string_view, 4> kinds{"a string", "true or false", "a whole number from 0 on",
                                                  "a flat object of strings"};
  for (const auto& [name, type] : expected) {
    const auto value = params[name];
    if (!value.exists() || value.is_null() || fits(value, type)) continue;
    return ipc::fail(ipc::Word::bad_request,
                     std::string(name) + " must be " + std::string(kinds[static_cast<std::size_t>(type)]));
  }
  return {};
}
}  // namespace plumberd
