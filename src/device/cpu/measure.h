// What this machine can do at best: the denominators of every ratio we print. Behind `preheat devices
// --measure`. Takes a second or two.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/thread_pool.h"
#include "device/device.h"

namespace preheat::device {

struct CpuRates {
  double read_bytes_per_s = 0;          // streaming reads, all threads of the pool
  double read_bytes_per_s_1thread = 0;  // the same, one thread
  double bf16_flops_per_s = 0;          // vdpbf16ps, or f32 FMA where the CPU has no bf16, all threads
};

struct MeasureOptions {
  size_t buffer_bytes = size_t{1} << 30;  // well beyond any cache
  int repeats = 5;                        // of each stream kernel; the best counts
};

// One measurement at a time, for ratios: what is compared runs between two of them.
class CpuProbe {
 public:
  // Takes memory of that size and touches it.
  explicit CpuProbe(size_t buffer_bytes);
  // The best of one pass of each stream kernel, and one pass of the arithmetic kernel (about 0.1 s).
  double ReadBytesPerSecond(ThreadPool& pool);
  // Bytes over time of `passes` passes of the stream kernel that was best on its first call: what a long
  // stream gets, where the machine's bandwidth moves.
  double SteadyReadBytesPerSecond(ThreadPool& pool, int passes);
  double Bf16FlopsPerSecond(ThreadPool& pool);

 private:
  double TimeRead(ThreadPool& pool, ph_kernel kernel);

  int64_t tiles_;
  ph_kernel steady_kernel_ = nullptr;
  Buffer data_;
  Buffer results_;
};

// The best of several stream kernels (AVX2 and AVX-512 loads; one, two, four and eight streams a thread).
CpuRates MeasureCpu(ThreadPool& pool, const MeasureOptions& options = {});

}  // namespace preheat::device
