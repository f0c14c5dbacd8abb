#include "codegen/cuda/rate_kernels.h"

#include <fmt/format.h>

#include "codegen/cuda/machine_hopper.h"
#include "codegen/cuda/prelude.h"

namespace preheat::codegen::cuda {
namespace {

constexpr int kThreads = 256;

// By Little's law 3 to 8 TB/s at a latency of under 1 us take 30 to 60 KB under way on each multiprocessor:
// four blocks of 256 threads with eight loads of 16 bytes each have 128 KB.
constexpr int kReadBlocksPerSm = 4;
constexpr int kLoads = 8;

constexpr char kRead[] = R"text(
KERNEL(read_all, kThreads, kBlocksPerSm, ph_gpu_args) {
  WaitDependencies();
  const ph_args args = ArgsOf(params);
  const Words4* const data = Operand<const Words4>(&args, 0);
  u32 fold = 0;
  const i64 stride = (i64)BlockCount() * kThreads * kLoads;
  NO_UNROLL for (i64 at = (i64)BlockIndex() * kThreads * kLoads + ThreadIndex(); at < args.rows; at += stride) {
    Words4 words[kLoads];
    UNROLL for (int i = 0; i < kLoads; ++i) words[i] = LoadStream16(data + at + i * kThreads);
    UNROLL for (int i = 0; i < kLoads; ++i) fold ^= words[i].w[0] ^ words[i].w[1] ^ words[i].w[2] ^ words[i].w[3];
  }
  Operand<u32>(&args, 1)[BlockIndex() * kThreads + ThreadIndex()] = fold;
}
)text";

// What both ways to multiply end with.
constexpr char kStoreSums[] = R"text(
// A 16 x 8 tile of the block's sums, whose first element is (row, column), as MultiplyBf16 has it.
INLINE void StoreSums(const ph_args& args, int row, int column, const float* sums) {
  float* const to = Operand<float>(&args, 2) + (i64)BlockIndex() * kRows * kColumns;
  UNROLL for (int i = 0; i < 4; ++i) {
    to[(row + Lane() / 4 + i / 2 * 8) * kColumns + column + Lane() % 4 * 2 + i % 2] = sums[i];
  }
}
)text";

// Two warpgroups, 64 rows each, share the columns: x and w in shared memory, as boxes would come there.
constexpr char kWarpgroups[] = R"text(
constexpr int kRowBytes = kK * 2, kRowPieces = kRowBytes / 16;
INLINE void CopyRows(u8* to, const Words4* from, int rows) {
  for (int i = ThreadIndex(); i < rows * kRowPieces; i += kThreads) {
    const int row = i / kRowPieces, piece = i % kRowPieces;
    *(Words4*)(to + row * kRowBytes + (piece ^ row % 8) * 16) = from[i];
  }
}

KERNEL(multiply_all, kThreads, 1, ph_gpu_args) {
  WaitDependencies();
  const ph_args args = ArgsOf(params);
  u8* const x = SharedMemory();
  u8* const w = x + kRows * kRowBytes;
  CopyRows(x, Operand<const Words4>(&args, 0), kRows);
  CopyRows(w, Operand<const Words4>(&args, 1), kColumns);
  FenceCopies();
  SyncBlock();
  const int warp = WarpIndex(), rounds = (int)args.rows;
  const u64 a = MatrixAt(x + warp / 4 * 64 * kRowBytes), b = MatrixAt(w);
  float sums[kColumns / 2];
  NO_UNROLL for (int round = 0; round < rounds; ++round) {
    FenceMatrices();
    UNROLL for (int part = 0; part < kK / 16; ++part) {
      MultiplyMatrices(sums, Advance(a, part * 32), Advance(b, part * 32), (round | part) != 0);
    }
    CommitMatrices();
    WaitMatrices<1>();
  }
  WaitMatrices<0>();
  UNROLL for (int i = 0; i < kColumns / 2; ++i) Settle(sums[i]);
  UNROLL for (int n = 0; n < kColumns / 8; ++n) StoreSums(args, warp * 16, n * 8, sums + n * 4);
}
)text";

// Each warp has rows of its own, and all of them the same columns: 16 independent products of fragments.
constexpr char kFragments[] = R"text(
constexpr int kRowTiles = 4, kColumnTiles = kColumns / 8;
// Elements k and k + 1 of a row.
INLINE u32 PairAt(const u32* matrix, int row, int k) { return matrix[(row * kK + k) / 2]; }

KERNEL(multiply_all, kThreads, 1, ph_gpu_args) {
  WaitDependencies();
  const ph_args args = ArgsOf(params);
  const u32* const x = Operand<const u32>(&args, 0);
  const u32* const w = Operand<const u32>(&args, 1);
  const int first_row = WarpIndex() * kRowTiles * 16, row = Lane() / 4, k = Lane() % 4 * 2;
  u32 a[kRowTiles][4], b[kColumnTiles][2];
  UNROLL for (int m = 0; m < kRowTiles; ++m) {
    UNROLL for (int i = 0; i < 4; ++i) a[m][i] = PairAt(x, first_row + m * 16 + row + i % 2 * 8, k + i / 2 * 8);
  }
  UNROLL for (int n = 0; n < kColumnTiles; ++n) {
    UNROLL for (int i = 0; i < 2; ++i) b[n][i] = PairAt(w, n * 8 + row, k + i * 8);
  }
  float sums[kRowTiles][kColumnTiles][4] = {};
  NO_UNROLL for (i64 round = 0; round < args.rows; ++round) {
    UNROLL for (int m = 0; m < kRowTiles; ++m) {
      UNROLL for (int n = 0; n < kColumnTiles; ++n) MultiplyBf16(sums[m][n], a[m], b[n]);
    }
  }
  UNROLL for (int m = 0; m < kRowTiles; ++m) {
    UNROLL for (int n = 0; n < kColumnTiles; ++n) StoreSums(args, first_row + m * 16, n * 8, sums[m][n]);
  }
}
)text";

}  // namespace

ReadKernel MakeReadKernel(const Target& target) {
  ReadKernel kernel;
  kernel.source = CudaPrelude(target, tensor::DType::kF32) +
                  fmt::format("constexpr int kThreads = {}, kBlocksPerSm = {}, kLoads = {};\n", kThreads,
                              kReadBlocksPerSm, kLoads) +
                  kRead;
  kernel.blocks = {.threads = kThreads, .blocks_per_sm = kReadBlocksPerSm};
  kernel.pieces_per_block = kThreads * kLoads;
  return kernel;
}

MultiplyKernel MakeMultiplyKernel(const Target& target) {
  const bool warpgroups = target.name == "sm_90a";
  MultiplyKernel kernel = {.blocks = {.threads = kThreads, .blocks_per_sm = 1}};
  if (warpgroups) {
    kernel.rows = 128;
    kernel.columns = 256;
    kernel.k = 64;
    kernel.blocks.shared_bytes = (kernel.rows + kernel.columns) * kernel.k * 2;
  } else {
    kernel.rows = kThreads / 32 * 64;
    kernel.columns = 32;
    kernel.k = 16;
  }
  kernel.source = CudaPrelude(target, tensor::DType::kBf16);
  if (warpgroups) kernel.source += HopperMachine({.matrices = static_cast<int>(kernel.columns)});
  kernel.source += fmt::format("constexpr int kThreads = {}, kRows = {}, kColumns = {}, kK = {};\n", kThreads,
                               kernel.rows, kernel.columns, kernel.k);
  kernel.source += kStoreSums;
  kernel.source += warpgroups ? kWarpgroups : kFragments;
  return kernel;
}

}  // namespace preheat::codegen::cuda
