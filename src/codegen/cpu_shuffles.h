// The words of the CPU vocabulary that move numbers across lanes (cpu_prelude.h): SumEach, Sum, MaxLane,
// Transpose.
#pragma once

#include <string>

namespace preheat::codegen {

// REQUIRES: lanes is 8 or 16.
std::string ShuffleText(int lanes);

}  // namespace preheat::codegen
