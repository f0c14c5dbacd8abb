// run --compare-load-vs-skip: isolated cold-start trials, loading the artifact against skipping it.
#pragma once

#include "cli/command.h"
#include "cli/options.h"

namespace preheat::cli {

// `words` are the command line's own: each trial's process gets them, with what makes it a trial behind them.
int CompareLoadAndSkip(const RunOptions& options, const Words& words);

}  // namespace preheat::cli
