#include "preload/step_plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace preheat::preload {
namespace {

// 0 where no bucket holds the prompt, which `notes` then say.
int64_t SmallestBucket(const StepRequest& request, std::vector<std::string>& notes) {
  const auto bucket = std::ranges::lower_bound(request.buckets, request.prompt_tokens);
  if (bucket != request.buckets.end()) return *bucket;
  if (request.buckets.empty()) {
    notes.push_back("no buckets are known, so the prompt is not padded: give --prefill-buckets");
  } else {
    notes.push_back(fmt::format("no bucket holds the prompt's {} tokens (buckets: {}): it runs unpadded",
                                request.prompt_tokens, fmt::join(request.buckets, ",")));
  }
  return 0;
}

}  // namespace

StepPlan PlanSteps(const StepRequest& request) {
  StepPlan plan;
  const int64_t bucket = request.bucket_pad ? SmallestBucket(request, plan.notes) : 0;
  const bool listed = std::ranges::binary_search(request.buckets, request.prompt_tokens);
  if (request.logit_rows == program::LogitRows::kAll) {
    plan.steps.push_back(StepSpec::AllLogits());
  } else if (request.dynamic == "true") {
    plan.steps.push_back(StepSpec::AnyLength());
  } else if (bucket > 0) {
    plan.bucket = bucket;
    plan.steps.push_back(StepSpec::Bucket(bucket));
  } else if (listed) {
    plan.steps.push_back(StepSpec::Bucket(request.prompt_tokens));
  } else if (request.dynamic == "false") {
    plan.notes.push_back(fmt::format("no program is listed for {} tokens: one is needed just for this",
                                     request.prompt_tokens));
    plan.steps.push_back(StepSpec::Bucket(request.prompt_tokens));
  } else {
    plan.steps.push_back(StepSpec::AnyLength());
  }
  plan.steps.push_back(StepSpec::Decode());
  return plan;
}

}  // namespace preheat::preload
