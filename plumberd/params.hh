// Parameters of requests at the native door: what is there must be what it should be.
#pragma once
#include <initializer_list>
#include <span>
#include <string_view>

#include "ipc/json.hh"

namespace plumberd {

struct Param {
  enum class Type : std::uint8_t { text, flag, count, labels };
  std::string_view name;
  Type type;
};

/// BAD_REQUEST names the first of `expected` that is there (null is not) and of another type: taking it for
/// absent would do something else than was asked.
ipc::Result<> check_params(ipc::JsonView params, std::span<const Param> expected);

}  // namespace plumberd
