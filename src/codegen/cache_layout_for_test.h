// Where an element lies in one layer's KV cache, said once more, as the text of cache_layout.h says it.
#pragma once

#include <cstdint>

#include "codegen/cache_layout.h"
#include "tensor/dtype.h"

namespace preheat::codegen {

inline int64_t OffsetInRows(const CacheShape& shape, int64_t capacity, int64_t head, int64_t position,
                            int64_t d) {
  const int64_t bytes = static_cast<int64_t>(tensor::Bytes(shape.dtype));
  const int64_t pieces = shape.head_dim * bytes / 16, elements = 16 / bytes;
  int64_t piece = d / elements;
  // Of eight pieces, those of odd positions change places with their neighbours, and so on: a binary
  // exclusive or.
  if (pieces % 8 == 0 && shape.head_dim * bytes % 128 == 0) piece ^= position % 8;
  return (head * capacity + position) * shape.head_dim + piece * elements + d % elements;
}

inline int64_t KeyOffsetForTest(const CacheShape& shape, int64_t capacity, int64_t head, int64_t position,
                                int64_t d) {
  if (shape.in_rows) return OffsetInRows(shape, capacity, head, position, d);
  const int64_t block = head * (capacity / shape.key_positions) + position / shape.key_positions;
  return ((block * (shape.head_dim / shape.key_dims) + d / shape.key_dims) * shape.key_positions +
          position % shape.key_positions) *
             shape.key_dims +
         d % shape.key_dims;
}

inline int64_t ValueOffsetForTest(const CacheShape& shape, int64_t capacity, int64_t head, int64_t position,
                                  int64_t d) {
  if (shape.in_rows) return OffsetInRows(shape, capacity, head, position, d);
  const int64_t block = head * (capacity / shape.value_positions) + position / shape.value_positions;
  return (block * shape.head_dim + d) * shape.value_positions + position % shape.value_positions;
}

}  // namespace preheat::codegen
