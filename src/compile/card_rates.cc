#include "compile/card_rates.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/cuda/rate_kernels.h"
#include "compile/plausible.h"
#include "sys/clock.h"

namespace preheat::compile {
namespace {

constexpr int64_t kMostReadBytes = int64_t{1} << 31;  // well beyond any L2
constexpr int64_t kPieceBytes = 16;
constexpr int kRepeats = 8;  // the first warms up, the best counts
// What is timed at once: less is mostly its own start and end. A read of 2 GiB at 5 TB/s takes 0.4 ms. Rounds
// of products are doubled until they take long enough; the most take a real card seconds.
constexpr size_t kReadLaunches = 16;
constexpr double kMultiplySeconds = 0.01;
constexpr int64_t kMostRounds = int64_t{1} << 24;

double BestSecondsOf(device::Device& device, std::span<const device::Launch> launches) {
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    device.Finish();
    const double start = sys::MonotonicSeconds();
    device.Run(launches);
    device.Finish();
    best = std::min(best, sys::MonotonicSeconds() - start);
  }
  return std::max(1e-9, best);
}

device::Buffer AllocateFilled(device::Device& device, int64_t bytes) {
  device::Buffer buffer = device.Allocate(static_cast<size_t>(bytes));
  FillPlausibly(device, buffer);
  return buffer;
}

double ReadBytesPerSecond(device::Device& device, const codegen::cuda::ReadKernel& read,
                          device::Kernel kernel) {
  // Whole rounds of all blocks, so that none idles at the end.
  const int64_t blocks = int64_t{read.blocks.blocks_per_sm} * device.threads();
  const int64_t round_bytes = blocks * read.pieces_per_block * kPieceBytes;
  const int64_t rounds =
      std::max<int64_t>(1, std::min(kMostReadBytes, device.memory_bytes() / 8) / round_bytes);
  const int64_t bytes = rounds * round_bytes;
  const device::Buffer data = AllocateFilled(device, bytes);
  const device::Buffer folds =
      device.Allocate(static_cast<size_t>(blocks * read.blocks.threads) * sizeof(uint32_t));
  void* operands[] = {data.data(), folds.data()};
  const ph_args args = {.operands = operands, .rows = bytes / kPieceBytes};
  const std::vector<device::Launch> launches(
      kReadLaunches,
      {.kernel = kernel, .args = &args, .operands = 2, .tiles = blocks, .blocks = read.blocks});
  return static_cast<double>(kReadLaunches) * static_cast<double>(bytes) / BestSecondsOf(device, launches);
}

double Bf16FlopsPerSecond(device::Device& device, const codegen::cuda::MultiplyKernel& multiply,
                          device::Kernel kernel) {
  const int64_t blocks = int64_t{multiply.blocks.blocks_per_sm} * device.threads();
  const device::Buffer x =
      AllocateFilled(device, multiply.rows * multiply.k * static_cast<int64_t>(sizeof(uint16_t)));
  const device::Buffer w =
      AllocateFilled(device, multiply.columns * multiply.k * static_cast<int64_t>(sizeof(uint16_t)));
  const device::Buffer sums =
      device.Allocate(static_cast<size_t>(blocks * multiply.rows * multiply.columns) * sizeof(float));
  void* operands[] = {x.data(), w.data(), sums.data()};
  ph_args args = {.operands = operands, .rows = 1};
  const device::Launch launch = {
      .kernel = kernel, .args = &args, .operands = 3, .tiles = blocks, .blocks = multiply.blocks};
  double seconds = BestSecondsOf(device, std::span(&launch, 1));
  while (seconds < kMultiplySeconds && args.rows < kMostRounds) {
    args.rows *= 2;
    seconds = BestSecondsOf(device, std::span(&launch, 1));
  }
  return static_cast<double>(blocks * args.rows) * multiply.FlopsPerRound() / seconds;
}

}  // namespace

CardRates MeasureCard(device::Device& device, const toolchain::Compiler& compiler) {
  const codegen::Target target = codegen::ParseTarget(device::TargetsOrThrow(device).front());
  const codegen::cuda::ReadKernel read = codegen::cuda::MakeReadKernel(target);
  const codegen::cuda::MultiplyKernel multiply = codegen::cuda::MakeMultiplyKernel(target);
  const std::vector<toolchain::CompiledUnit> units = compiler.Compile(
      {{"read_all", read.source, target.name}, {"multiply_all", multiply.source, target.name}}, {});
  const std::span<const std::byte> images[] = {units[0].image, units[1].image};
  const auto module = device.LoadCode(images);
  return {.read_bytes_per_s = ReadBytesPerSecond(device, read, module->Entry(0, "read_all")),
          .bf16_flops_per_s = Bf16FlopsPerSecond(device, multiply, module->Entry(1, "multiply_all"))};
}

}  // namespace preheat::compile
