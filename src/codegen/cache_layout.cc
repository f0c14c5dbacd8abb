#include "codegen/cache_layout.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codegen/buffers.h"

namespace preheat::codegen {
namespace {

// A multiple of every key_positions and value_positions.
constexpr int64_t kPositionBlock = 16;

constexpr char kOffsets[] = R"text(
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kKeyPositions) + position / kKeyPositions;
  const i64 dims = block * (kHeadDim / kKeyDims) + d / kKeyDims;
  return (dims * kKeyPositions + position % kKeyPositions) * kKeyDims + d % kKeyDims;
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const i64 block = kv_head * (capacity / kValuePositions) + position / kValuePositions;
  return (block * kHeadDim + d) * kValuePositions + position % kValuePositions;
}
)text";

// Keys and values of CUDA alike.
constexpr char kRowOffsets[] = R"text(
constexpr u32 kPieceElements = 16 / sizeof(CacheElement);
// Where the piece-th 16 bytes of a position's row stand in it.
INLINE i64 PieceAt(i64 position, i64 piece) { return kSwizzled ? (u32)piece ^ ((u32)position & 7) : (u32)piece; }
INLINE i64 KeyOffset(i64 capacity, i64 kv_head, i64 position, i64 d) {
  const u32 piece = (u32)d / kPieceElements, rest = (u32)d % kPieceElements;
  return (kv_head * capacity + position) * kHeadDim + (PieceAt(position, piece) * kPieceElements + rest);
}
INLINE i64 ValueOffset(i64 capacity, i64 kv_head, i64 position, i64 d) { return KeyOffset(capacity, kv_head, position, d); }
)text";

// Whole groups of eight pieces: then eight positions' pieces of one number stand in all banks of shared
// memory.
bool Swizzles(const CacheShape& shape) {
  return shape.head_dim * static_cast<int64_t>(tensor::Bytes(shape.dtype)) % 128 == 0;
}

}  // namespace

CacheShape CacheShapeOf(const ir::Type& cache, const Target& target) {
  CHECK(cache.shape.size() == 4);
  CacheShape shape{.dtype = cache.dtype, .kv_heads = cache.shape[2].size, .head_dim = cache.shape[3].size};
  CHECK(shape.kv_heads > 0 && shape.head_dim > 0 && shape.head_dim % 2 == 0);
  shape.in_rows = target.IsCuda();
  if (shape.in_rows) return shape;
  if (cache.dtype == tensor::DType::kBf16 && target.bf16_dot) {
    shape.key_positions = 16;
    shape.key_dims = 2;
    shape.value_positions = 2;
  } else {
    shape.key_positions = target.vector_bytes / 4;
  }
  return shape;
}

std::string CachePrelude(const CacheShape& shape) {
  if (shape.in_rows) {
    return fmt::format(
               "\ntypedef {} CacheElement;\n"
               "constexpr i64 kKvHeads = {}, kHeadDim = {};\nconstexpr bool kSwizzled = {};\n",
               ElementName(shape.dtype), shape.kv_heads, shape.head_dim, Swizzles(shape)) +
           kRowOffsets;
  }
  return fmt::format(
             "\ntypedef {} CacheElement;\n"
             "constexpr i64 kKvHeads = {}, kHeadDim = {};\n"
             "constexpr i64 kKeyPositions = {}, kKeyDims = {}, kValuePositions = {};\n",
             ElementName(shape.dtype), shape.kv_heads, shape.head_dim, shape.key_positions, shape.key_dims,
             shape.value_positions) +
         kOffsets;
}

program::KvLayout CacheLayout(const ir::Type& cache, const Target& target) {
  const CacheShape shape = CacheShapeOf(cache, target);
  const int64_t bytes_per_position =
      shape.kv_heads * shape.head_dim * static_cast<int64_t>(tensor::Bytes(shape.dtype));
  const std::string order =
      shape.in_rows ? (Swizzles(shape) ? "rows8" : "rows")
                    : fmt::format("{}{}", shape.key_dims == 2 ? "pairs" : "lanes", shape.key_positions);
  return {
      .name = fmt::format("{}-{}", ElementName(shape.dtype), order),
      .position_block = kPositionBlock,
      .key_bytes = {.per_position = bytes_per_position},
      .value_bytes = {.per_position = bytes_per_position},
  };
}

}  // namespace preheat::codegen
