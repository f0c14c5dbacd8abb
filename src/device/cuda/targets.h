// Which targets a card runs. A capability is its compute capability times 10: 90.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace preheat::device {

// What a card needs to run machine code of any of our targets, in words.
inline constexpr char kCudaNeeds[] = "compute capability 8.0 to 10.x or 12.x";
// Targets of machine code that a card of this capability runs, best first.
std::vector<std::string> CudaTargets(int capability);
// Those of PTX, which its driver compiles for it; best first.
std::vector<std::string> CudaPtxTargets(int capability);
// The capability in a target's name: 90 of "sm_90a" and "compute_90"; 0 where there is none.
int CapabilityOf(std::string_view target);

}  // namespace preheat::device
