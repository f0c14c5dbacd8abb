// One trial: this program again, as a child with a fresh cache folder, its output kept. Its warnings are
// passed on, those once that differ in numbers alone. One thread at a time.
#pragma once

#include <string>

#include "cli/command.h"
#include "cli/options.h"
#include "sys/process.h"

namespace preheat::cli {

struct TrialOptions {
  std::string command;  // "run", "benchmark"
  Words words;
  bool fresh_cache = true;  // else the user's own cache folder
  bool show = false;        // pass the child's lines on as they come
};

struct Trial {
  std::string output;
  double wall_seconds = 0;
};

// Errors: Interrupted where the user asked to stop; ToolFailed, with the child's whole output, where it
// failed.
Trial RunTrial(const TrialOptions& options);

// `words` such that all trials run on one device: an artifact's PTX would make a card usable for those alone
// that load it.
Words OnOneDevice(const SharedOptions& options, Words words);

}  // namespace preheat::cli
