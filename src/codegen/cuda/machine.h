// What a CUDA kernel asks of the machine, as text: thread indices, shuffles, barriers, bulk copies,
// tensor-core steps, memory orders. It is the only text that holds inline PTX; bodies and launchers use its
// names alone, so that a second implementation of the same names for the host (host_machine_for_test.h) runs
// generated kernels without a card.
//
// Rules that the names carry:
//   what another kernel made is read by LoadDependent*, after WaitDependencies: never through L1 or the
//   read-only path, which may hold what was there before; and what the assembler may not move before the wait
//   what an earlier step made (keys and values of its positions) is read by LoadEarlier*, at any time
//   what never changes while a program runs (weights) may be read at any time, by LoadStream* or CopyBulk
//   waits are bounded: a barrier that does not come stops the kernel with a trap, which the host reports
#pragma once

#include <cstdint>
#include <string_view>

#include "codegen/codegen.h"

namespace preheat::codegen::cuda {

// CUDA C++ for sm_80 and later; what newer cards alone have is behind __CUDA_ARCH__. No includes.
std::string_view CudaMachine();

// The most shared memory that a block may have on this target.
int64_t MostSharedBytes(const Target& target);
inline constexpr int64_t kUsualMultiprocessors = 132;  // of an H100 or H200
// Of the card that is to run the step; where it is not known, of a usual one.
int64_t Multiprocessors(const StepShape& shape);

}  // namespace preheat::codegen::cuda
