// One mode of a benchmark in this process: N requests, and the BENCH_JSON line.
#pragma once

#include "cli/options.h"

namespace preheat::cli {

int RunBenchmarkMode(const BenchmarkOptions& options);

}  // namespace preheat::cli
