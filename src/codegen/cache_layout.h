// Where an element lies in one layer's KV cache, for the kernels that append and the kernels that attend.
//
// Keys    [kv_head][position / P][d / D][position % P][d % D]
// Values  [kv_head][position / V][d][position % V]
// Where the cache is bf16 and the target multiplies bf16 pairs: P = 16, D = 2, V = 2, so that both products
// of attention read whole units without rearranging: scores broadcast a query's pair of dimensions over 16
// positions, outputs broadcast a pair of probabilities over dimensions. Otherwise P = lanes of a vector, D =
// V = 1.
// A GPU's cache is [kv_head][position][d] for both; where a row has whole groups of eight pieces of 16 bytes, the p-th
// piece of a position stands at p ^ (position % 8), so that eight positions, copied to shared memory as they are, are
// read by matrix loads without conflicts. Positions that were never appended hold anything.
#pragma once

#include <string>

#include "codegen/codegen.h"

namespace preheat::codegen {

struct CacheShape {
  tensor::DType dtype = tensor::DType::kF32;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t key_positions = 1;    // P
  int64_t key_dims = 1;         // D
  int64_t value_positions = 1;  // V
  bool in_rows = false;         // of a GPU
};

// REQUIRES: `cache` is [2, any, kv_heads, head_dim] of a floating-point type, head_dim even.
CacheShape CacheShapeOf(const ir::Type& cache, const Target& target);

// Text that follows CpuPrelude: the type CacheElement; the constants kKvHeads, kHeadDim, kKeyPositions,
// kKeyDims, kValuePositions; and, in elements from the begin of a layer's keys or values,
//   i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d)
//   i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d)
// and for a GPU PieceAt(position, piece).
std::string CachePrelude(const CacheShape& shape);

}  // namespace preheat::codegen
