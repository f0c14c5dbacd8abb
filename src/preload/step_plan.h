// Which programs a prompt needs, and the bucket that it is padded to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "preload/program_key.h"

namespace preheat::preload {

struct StepRequest {
  int64_t prompt_tokens = 0;
  std::vector<int64_t> buckets;  // that programs were built for, ascending
  bool bucket_pad = false;       // pad to the smallest bucket that holds the prompt
  std::string dynamic = "auto";  // --compile-dynamic
  program::LogitRows logit_rows = program::LogitRows::kLast;
};

struct StepPlan {
  int64_t bucket = 0;  // 0: not padded
  std::vector<StepSpec> steps;
  std::vector<std::string> notes;  // for the user: what could not be as it was asked for
};

StepPlan PlanSteps(const StepRequest& request);

}  // namespace preheat::preload
