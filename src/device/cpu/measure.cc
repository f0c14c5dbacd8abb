#include "device/cpu/measure.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "sys/cpu.h"

namespace preheat::device {
namespace {

// A tile of the stream kernels: large enough that starting a tile costs nothing, small enough to share out.
constexpr int64_t kTileBytes = int64_t{1} << 20;

// operands[0]: the buffer; operands[1]: 64 bytes a tile for a result, so that no load can be left out.
std::byte* ResultOf(const ph_args* args, int64_t tile) {
  return static_cast<std::byte*>(args->operands[1]) + tile * 64;
}

template <int kStreams>
__attribute__((target("avx2"))) void ReadAvx2(const ph_args* args, int64_t begin, int64_t end, void*) {
  constexpr int64_t kStreamBytes = kTileBytes / kStreams;
  for (int64_t tile = begin; tile < end; ++tile) {
    const char* data = static_cast<const char*>(args->operands[0]) + tile * kTileBytes;
    __m256i sums[kStreams] = {};
    for (int64_t i = 0; i < kStreamBytes; i += 64) {
#pragma GCC unroll 8
      for (int s = 0; s < kStreams; ++s) {
        const char* line = data + s * kStreamBytes + i;
        const __m256i low = _mm256_load_si256(reinterpret_cast<const __m256i*>(line));
        const __m256i high = _mm256_load_si256(reinterpret_cast<const __m256i*>(line + 32));
        sums[s] = _mm256_or_si256(sums[s], _mm256_or_si256(low, high));
      }
    }
    for (int s = 1; s < kStreams; ++s) sums[0] = _mm256_or_si256(sums[0], sums[s]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(ResultOf(args, tile)), sums[0]);
  }
}

template <int kStreams>
__attribute__((target("avx512f"))) void ReadAvx512(const ph_args* args, int64_t begin, int64_t end, void*) {
  constexpr int64_t kStreamBytes = kTileBytes / kStreams;
  for (int64_t tile = begin; tile < end; ++tile) {
    const char* data = static_cast<const char*>(args->operands[0]) + tile * kTileBytes;
    __m512i even[kStreams];
    __m512i odd[kStreams];
    for (int s = 0; s < kStreams; ++s) even[s] = odd[s] = _mm512_setzero_si512();
    for (int64_t i = 0; i < kStreamBytes; i += 128) {
#pragma GCC unroll 8
      for (int s = 0; s < kStreams; ++s) {
        const char* line = data + s * kStreamBytes + i;
        even[s] = _mm512_or_si512(even[s], _mm512_load_si512(line));
        odd[s] = _mm512_or_si512(odd[s], _mm512_load_si512(line + 64));
      }
    }
    __m512i sum = _mm512_setzero_si512();
    for (int s = 0; s < kStreams; ++s) sum = _mm512_or_si512(sum, _mm512_or_si512(even[s], odd[s]));
    _mm512_store_si512(ResultOf(args, tile), sum);
  }
}

// The arithmetic kernels: independent accumulators enough to fill the pipelines (latency 4 to 6, two a
// cycle). A tile is kSteps rounds.
constexpr int64_t kSteps = 20000;
constexpr int kAccumulators = 16;

__attribute__((target("avx512f,avx512bf16"))) void Bf16Dot(const ph_args* args, int64_t begin, int64_t end,
                                                           void*) {
  __m512 sums[kAccumulators];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  __m512i a = _mm512_set1_epi32(0x3f803f80);  // ones
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
#pragma GCC unroll 16
    for (auto& sum : sums) asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(a));
  }
  for (int i = 1; i < kAccumulators; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  _mm512_store_ps(ResultOf(args, begin), sums[0]);
}
constexpr double kBf16FlopsPerStep = kAccumulators * 32 * 2.0;

__attribute__((target("avx512f"))) void Fma512(const ph_args* args, int64_t begin, int64_t end, void*) {
  __m512 sums[kAccumulators];
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  __m512 a = _mm512_set1_ps(1);
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
#pragma GCC unroll 16
    for (auto& sum : sums) asm volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(a));
  }
  for (int i = 1; i < kAccumulators; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  _mm512_store_ps(ResultOf(args, begin), sums[0]);
}
constexpr double kFma512FlopsPerStep = kAccumulators * 16 * 2.0;

// 16 ymm registers only: 12 accumulators.
constexpr int kAccumulators256 = 12;
__attribute__((target("avx2,fma"))) void Fma256(const ph_args* args, int64_t begin, int64_t end, void*) {
  __m256 sums[kAccumulators256];
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  __m256 a = _mm256_set1_ps(1);
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
#pragma GCC unroll 12
    for (auto& sum : sums) asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(a));
  }
  for (int i = 1; i < kAccumulators256; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  _mm256_store_ps(reinterpret_cast<float*>(ResultOf(args, begin)), sums[0]);
}
constexpr double kFma256FlopsPerStep = kAccumulators256 * 8 * 2.0;

double SecondsOf(ThreadPool& pool, const Launch& launch) {
  const auto begin = std::chrono::steady_clock::now();
  pool.Run(std::span(&launch, 1));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Kernels are interleaved over the repeats: a slow moment of a shared machine then hits all of them.
double BestRead(ThreadPool& pool, const ph_args& args, int64_t tiles, int repeats) {
  std::vector<ph_kernel> kernels = {ReadAvx2<1>, ReadAvx2<2>, ReadAvx2<4>, ReadAvx2<8>};
  if (sys::ThisCpu().features.avx512f) {
    kernels.insert(kernels.end(), {ReadAvx512<1>, ReadAvx512<2>, ReadAvx512<4>, ReadAvx512<8>});
  }
  double best = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (const ph_kernel kernel : kernels) {
      Launch launch;
      launch.kernel = kernel;
      launch.args = &args;
      launch.tiles = tiles;
      best = std::max(best, static_cast<double>(tiles * kTileBytes) / SecondsOf(pool, launch));
    }
  }
  return best;
}

}  // namespace

CpuRates MeasureCpu(ThreadPool& pool, const MeasureOptions& options) {
  const sys::CpuFeatures& cpu = sys::ThisCpu().features;
  if (!cpu.avx2 || !cpu.fma) return {};
  const int64_t tiles = std::max<int64_t>(1, static_cast<int64_t>(options.buffer_bytes) / kTileBytes);
  const Buffer data = AllocateHostMemory(static_cast<size_t>(tiles * kTileBytes));
  const Buffer results = AllocateHostMemory(static_cast<size_t>(std::max<int64_t>(tiles, 4096)) * 64);
  std::memset(data.data(), 1, data.size());  // pages of their own: untouched ones are all one page of zeros
  void* operands[] = {data.data(), results.data()};
  ph_args args = {};
  args.operands = operands;

  CpuRates rates;
  rates.read_bytes_per_s = BestRead(pool, args, tiles, options.repeats);
  ThreadPool one({.threads = 1});
  rates.read_bytes_per_s_1thread = BestRead(one, args, tiles, options.repeats);
  rates.read_bytes_per_s = std::max(rates.read_bytes_per_s, rates.read_bytes_per_s_1thread);

  Launch launch;
  launch.args = &args;
  launch.chunk = 1;
  launch.tiles = 16 * pool.threads();
  double flops_per_step = kFma256FlopsPerStep;
  launch.kernel = Fma256;
  if (cpu.avx512f) {
    launch.kernel = Fma512;
    flops_per_step = kFma512FlopsPerStep;
  }
  if (cpu.avx512bf16) {
    launch.kernel = Bf16Dot;
    flops_per_step = kBf16FlopsPerStep;
  }
  const double flops = static_cast<double>(launch.tiles * kSteps) * flops_per_step;
  for (int repeat = 0; repeat < 2 * options.repeats; ++repeat) {
    rates.bf16_flops_per_s = std::max(rates.bf16_flops_per_s, flops / SecondsOf(pool, launch));
  }
  return rates;
}

}  // namespace preheat::device
