// Running a program on a connection.
#pragma once
#include <string>
#include <vector>

#include "ipc/json.hh"

namespace plumb {

/// Our environment without PLUMB_*, and with the labels as PLUMB_PEER_ADDRESS=... (letters in capitals, what
/// is neither letter nor digit as '_'; of labels that come to the same name the first counts) and `more`
/// ("NAME=VALUE").
std::vector<std::string> environment_for(const ipc::Labels& labels, std::vector<std::string> more);

/// Becomes `program` with `connection` (borrowed) as descriptors 0 and 1. Returns only when that fails: 127
/// when the program is not found, 126 when it cannot be run, as shells do.
int become(const std::vector<std::string>& program, const std::vector<std::string>& environment,
           int connection);

}  // namespace plumb
