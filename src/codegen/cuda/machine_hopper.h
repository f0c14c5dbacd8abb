// What kernels for sm_90a alone ask of the machine, beside machine.h's words: clusters of blocks that reach
// into each other's shared memory, copies of boxes of a tensor, products of whole warpgroups. Like
// machine.h's it is the only text that holds inline PTX, and tests have the same names for the host.
//
// Rules that the names carry:
//   a CopyBarrier counts what is copied or sent to its block, by whichever block of the cluster
//   nothing is sent to a block before SyncCluster has told that its barriers stand, nor after it may have
//   ended matrices lie in shared memory as boxes of 64 bf16 come there: rows of 128 bytes, whose pieces of 16
//   bytes change places from row to row (swizzle of 128 bytes); they begin at multiples of 1024 a product's
//   sums are not to be touched from MultiplyMatrices to the WaitMatrices that waits for it
#pragma once

#include <string>

namespace preheat::codegen::cuda {

// Columns of each kind of product that a unit has, a multiple of 8 up to 256; 0: it has none of the kind.
struct HopperProducts {
  int matrices = 0;    // MultiplyMatrices: both factors in shared memory
  int fragments = 0;   // MultiplyFragments: the left one in registers
  int transposed = 0;  // MultiplyTransposed: besides, the right one lies with its columns side by side
};
// Text that follows CudaMachine().
std::string HopperMachine(const HopperProducts& products);

// A ring's next slot: text for kernels that have rings, no word of the machine's.
extern const char kTurn[];

// What the words of the machine begin and end with, in that text.
inline constexpr char kHopperBegin[] = "\n// ==== sm_90a ====\n", kHopperEnd[] = "// ==== sm_90a ends ====\n";

}  // namespace preheat::codegen::cuda
