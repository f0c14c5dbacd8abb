// The text of the sampling kernel, written against the vocabulary of cpu_prelude.h. sample.cc puts the
// constant kVocab before it.
#pragma once

namespace preheat::codegen::sample {

extern const char kSampleBody[];

}  // namespace preheat::codegen::sample
