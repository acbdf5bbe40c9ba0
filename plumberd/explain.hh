// The decision of a request that is not carried out: what `plumb explain` shows. The functions that a request
// goes through, without a connection.
#pragma once
#include <string>

#include "plumberd/plan.hh"
#include "plumberd/router.hh"

namespace plumberd {

Decision explain(Router& router, const Ask& ask, Asker asker);
/// The explanation of a remote peer's request; one that a transit listener of that scheme may pass on is
/// explained to its end.
Decision explain_in(Router& router, const std::string& service, Asker asker, Question question);

}  // namespace plumberd
