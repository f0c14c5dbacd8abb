// The machine of CudaMachine() on the host: the same names for the host's compiler, and a runner that
// executes a kernel over its grid. Every CUDA thread is a fiber; fibers run one at a time, so a run is
// repeatable, and `seed` chooses among the orders that CUDA allows. What depends on order shows as a
// difference between seeds.
//
// An error, with kernel, block, thread and line of the unit, is:
//   meeting     threads that wait for each other and cannot go on (with who waits where); lanes of a warp in
//               different places; warps in part at a barrier; a thread that ended where others wait for it
//   shared      a write within 1 KB outside of the block's memory; a copy that is misaligned, outside, or to
//               where another is in flight; a write or a LoadMatrices where a copy is in flight; a copy that
//               nobody waited for
//   barriers    one that was not made or fenced, was overwritten, has arrivals or bytes beside its counts
//   clusters    what is sent to a block that has ended, or does not run yet; a tensor map that nobody made
//   products    matrices that are outside of the block's memory, or that a copy is in flight to, at the last
//   moment at
//               which the product may be performed; lanes of a warp with different ones; sums that nobody
//               waited for
//   global      a misaligned address; one outside of `ranges`, or read in another way than its access allows;
//   a
//               LoadDependent* before WaitDependencies; a source that changes under a copy
//   plain C++   what the compiler's checks find: misaligned or null pointers, indices outside of arrays,
//   integer
//               overflow, shifts too far; under AddressSanitizer its own checks
// Reading too early (before a wait, a wrong parity, a slot refilled too early) gives NaN: a copy's
// destination is NaN from its issue until the last moment at which it may be performed; so are a product's
// sums.
//
// Not found: plain accesses to global memory outside of any buffer, unless AddressSanitizer runs; a race that
// no tried order shows; a fence that is missing, and stale caches (all writes are seen at once); whether
// instructions were moved. A loop that calls none of the names and never ends is not stopped.
//
// REQUIRES of kernels: no destructor that matters; a launch that fails abandons its threads where they stand.
// One launch at a time in a process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/cuda/host_calls_for_test.h"

namespace preheat::codegen::cuda {

// Whether fibers work here; under ThreadSanitizer they do not.
bool HostMachineRuns();
// Whether AddressSanitizer is in this program, and so in units.
bool HostMachineIsInstrumented();

// A unit's text with CudaMachine() and HopperMachine() replaced by the host's names; lines keep their
// numbers. REQUIRES: `unit` contains CudaMachine().
std::string WithHostMachine(std::string_view unit);

// How a kernel may use a part of global memory.
enum class HostAccess {
  kImmutable,  // weights: read in any way, at any time
  kEarlier,    // made by an earlier step: LoadEarlier* and copies at any time, LoadDependent* after
               // WaitDependencies
  kDependent,  // made by an earlier kernel: LoadDependent* and copies, after WaitDependencies
  kWritten,  // written by this launch: LoadDependent* and CopyAsync16 (no bulk copy), after WaitDependencies
};

struct HostRange {
  const void* begin = nullptr;
  size_t bytes = 0;
  HostAccess access = HostAccess::kImmutable;
};

struct HostLaunch {
  int grid = 1;
  int threads = 32;  // a block
  int shared_bytes = 0;
  std::span<const std::byte> params{};
  // 0: threads and blocks in order, copies as late as can be. Others: another order each; odd ones shuffle
  // threads anew at each step, even ones prefer some warps throughout; copies end now and then early.
  uint64_t seed = 0;
  // Blocks that run at the same time; kernels with a barrier over the grid need all.
  int resident_blocks = 1;
  int cluster = 1;  // neighbouring blocks that always run at the same time
  // What Load* and copies may read; none: any address.
  std::vector<HostRange> ranges{};
  // Between fibers, about half a minute: a launch that goes on longer is an error.
  int64_t max_switches = 500'000'000;
};

struct HostRun {
  std::string error;  // "" where all went well; else the first error
  // What the kernel did, up to the error.
  int64_t stream_bytes = 0;     // by LoadStream* and LoadEarlier*
  int64_t dependent_bytes = 0;  // by LoadDependent*
  int64_t copied_bytes = 0;     // by CopyBulk and CopyAsync16*
  int64_t waits = 0;            // threads that called WaitDependencies
  int64_t launches = 0;         // threads that called LaunchDependents
  int64_t switches = 0;         // between fibers
};

// A kernel of a loaded unit.
struct HostKernel {
  std::string name;
  void (*function)(const void* params) = nullptr;
  const HostBounds* bounds = nullptr;
};

// The names of HopperMachine(), part of the table.
void AddHopperCalls(HostCalls* table);

// What the unit's `host_calls` must point to.
const HostCalls& HostCallTable();

HostRun RunOnHost(const HostKernel& kernel, const HostLaunch& launch);

}  // namespace preheat::codegen::cuda
