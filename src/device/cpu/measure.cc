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
constexpr int64_t kMostTiles = 4096;  // of an arithmetic kernel: a result line each

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

// The arithmetic kernels: fourteen independent accumulators more than fill the pipelines (latency 4 to 6, two
// a cycle), and are the most that one asm statement can name; an array of them would live in memory. A tile
// is kSteps rounds.
constexpr int64_t kSteps = 1000000;
constexpr int kAccumulators = 14;

#define PREHEAT_EACH(op)                                                                           \
  op " %14, %14, %0\n\t" op " %14, %14, %1\n\t" op " %14, %14, %2\n\t" op " %14, %14, %3\n\t" op   \
     " %14, %14, %4\n\t" op " %14, %14, %5\n\t" op " %14, %14, %6\n\t" op " %14, %14, %7\n\t" op   \
     " %14, %14, %8\n\t" op " %14, %14, %9\n\t" op " %14, %14, %10\n\t" op " %14, %14, %11\n\t" op \
     " %14, %14, %12\n\t" op " %14, %14, %13"

__attribute__((target("avx512f,avx512bf16"))) void Bf16Dot(const ph_args* args, int64_t begin, int64_t end,
                                                           void*) {
  __m512 s0 = _mm512_setzero_ps();
  __m512 s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0,
         s12 = s0, s13 = s0;
  const __m512i a = _mm512_set1_epi32(0x3f803f80);
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
    asm volatile(PREHEAT_EACH("vdpbf16ps")
                 : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8),
                   "+v"(s9), "+v"(s10), "+v"(s11), "+v"(s12), "+v"(s13)
                 : "v"(a));
  }
  s0 = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11 + s12 + s13;
  _mm512_store_ps(ResultOf(args, begin), s0);
}
constexpr double kBf16FlopsPerStep = kAccumulators * 32 * 2.0;

__attribute__((target("avx512f"))) void Fma512(const ph_args* args, int64_t begin, int64_t end, void*) {
  __m512 s0 = _mm512_setzero_ps();
  __m512 s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0,
         s12 = s0, s13 = s0;
  const __m512 a = _mm512_set1_ps(1);
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
    asm volatile(PREHEAT_EACH("vfmadd231ps")
                 : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8),
                   "+v"(s9), "+v"(s10), "+v"(s11), "+v"(s12), "+v"(s13)
                 : "v"(a));
  }
  s0 = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11 + s12 + s13;
  _mm512_store_ps(ResultOf(args, begin), s0);
}
constexpr double kFma512FlopsPerStep = kAccumulators * 16 * 2.0;

__attribute__((target("avx2,fma"))) void Fma256(const ph_args* args, int64_t begin, int64_t end, void*) {
  __m256 s0 = _mm256_setzero_ps();
  __m256 s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0,
         s12 = s0, s13 = s0;
  const __m256 a = _mm256_set1_ps(1);
  for (int64_t step = 0; step < (end - begin) * kSteps; ++step) {
    asm volatile(PREHEAT_EACH("vfmadd231ps")
                 : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5), "+x"(s6), "+x"(s7), "+x"(s8),
                   "+x"(s9), "+x"(s10), "+x"(s11), "+x"(s12), "+x"(s13)
                 : "x"(a));
  }
  s0 = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11 + s12 + s13;
  _mm256_store_ps(reinterpret_cast<float*>(ResultOf(args, begin)), s0);
}
constexpr double kFma256FlopsPerStep = kAccumulators * 8 * 2.0;

#undef PREHEAT_EACH

double SecondsOf(ThreadPool& pool, const Launch& launch) {
  const auto begin = std::chrono::steady_clock::now();
  pool.Run(std::span(&launch, 1));
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<ph_kernel> StreamKernels() {
  const sys::CpuFeatures& cpu = sys::ThisCpu().features;
  if (!cpu.avx2) return {};
  std::vector<ph_kernel> kernels = {ReadAvx2<1>, ReadAvx2<2>, ReadAvx2<4>, ReadAvx2<8>};
  if (cpu.avx512f) {
    kernels.insert(kernels.end(), {ReadAvx512<1>, ReadAvx512<2>, ReadAvx512<4>, ReadAvx512<8>});
  }
  return kernels;
}

}  // namespace

CpuProbe::CpuProbe(size_t buffer_bytes)
    : tiles_(std::max<int64_t>(1, static_cast<int64_t>(buffer_bytes) / kTileBytes)),
      data_(AllocateHostMemory(static_cast<size_t>(tiles_ * kTileBytes))),
      results_(AllocateHostMemory(static_cast<size_t>(std::max<int64_t>(tiles_, kMostTiles)) * 64)) {
  std::memset(data_.data(), 1, data_.size());  // pages of their own: untouched ones are all one page of zeros
}

double CpuProbe::TimeRead(ThreadPool& pool, ph_kernel kernel) {
  void* operands[] = {data_.data(), results_.data()};
  const ph_args args = {.operands = operands};
  return SecondsOf(pool, {.kernel = {.host = kernel}, .args = &args, .tiles = tiles_});
}

double CpuProbe::ReadBytesPerSecond(ThreadPool& pool) {
  double best = 0;
  for (const ph_kernel kernel : StreamKernels()) {
    best = std::max(best, static_cast<double>(tiles_ * kTileBytes) / TimeRead(pool, kernel));
  }
  return best;
}

double CpuProbe::SteadyReadBytesPerSecond(ThreadPool& pool, int passes) {
  if (steady_kernel_ == nullptr) {
    double best_seconds = 0;
    for (int round = 0; round < 3; ++round) {
      for (const ph_kernel kernel : StreamKernels()) {
        const double seconds = TimeRead(pool, kernel);
        if (steady_kernel_ != nullptr && seconds >= best_seconds) continue;
        best_seconds = seconds;
        steady_kernel_ = kernel;
      }
    }
  }
  if (steady_kernel_ == nullptr) return 0;
  double seconds = 0;
  for (int pass = 0; pass < passes; ++pass) seconds += TimeRead(pool, steady_kernel_);
  return static_cast<double>(passes * tiles_ * kTileBytes) / seconds;
}

double CpuProbe::Bf16FlopsPerSecond(ThreadPool& pool) {
  const sys::CpuFeatures& cpu = sys::ThisCpu().features;
  if (!cpu.avx2 || !cpu.fma) return 0;
  ph_kernel kernel = Fma256;
  double flops_per_step = kFma256FlopsPerStep;
  if (cpu.avx512f) {
    kernel = Fma512;
    flops_per_step = kFma512FlopsPerStep;
  }
  if (cpu.avx512bf16) {
    kernel = Bf16Dot;
    flops_per_step = kBf16FlopsPerStep;
  }
  void* operands[] = {data_.data(), results_.data()};
  const ph_args args = {.operands = operands};
  const int64_t tiles = std::min<int64_t>(kMostTiles, 64 * pool.threads());
  const double seconds =
      SecondsOf(pool, {.kernel = {.host = kernel}, .args = &args, .tiles = tiles, .chunk = 1});
  return static_cast<double>(tiles * kSteps) * flops_per_step / seconds;
}

// The probes take turns over the repeats: a slow moment of a shared machine then hits all of them.
CpuRates MeasureCpu(ThreadPool& pool, const MeasureOptions& options) {
  CpuProbe probe(options.buffer_bytes);
  ThreadPool one({.threads = 1});
  CpuRates rates;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    rates.read_bytes_per_s_1thread = std::max(rates.read_bytes_per_s_1thread, probe.ReadBytesPerSecond(one));
    rates.read_bytes_per_s = std::max(rates.read_bytes_per_s, probe.ReadBytesPerSecond(pool));
    rates.bf16_flops_per_s = std::max(rates.bf16_flops_per_s, probe.Bf16FlopsPerSecond(pool));
  }
  rates.read_bytes_per_s = std::max(rates.read_bytes_per_s, rates.read_bytes_per_s_1thread);
  return rates;
}

}  // namespace preheat::device
