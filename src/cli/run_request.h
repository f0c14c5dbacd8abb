// One process's run: opens the engine, generates once, prints what users and scripts read. Shared by `preheat
// run`, `preheat eager` and preheat-run; the full binary passes backends, the runtime binary none.
#pragma once

#include "cli/engine.h"
#include "cli/options.h"

namespace preheat::cli {

// Returns the exit code. Errors: as Engine's, and what generating throws.
int RunRequest(const RunOptions& options, const Backends& backends);

// "0.53", below 0.1 s with four decimals: "0.0123".
std::string Seconds(double seconds);

}  // namespace preheat::cli
