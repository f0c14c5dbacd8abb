// The text of sampling; sample.h says what it does.
#pragma once

namespace preheat::codegen::cuda::sample {

extern const char kSampleBody[];

}  // namespace preheat::codegen::cuda::sample
