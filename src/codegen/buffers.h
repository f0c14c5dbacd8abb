// How elements and activations lie in memory between regions: the one rule that every generator and
// BufferExtent share.
#pragma once

#include <cstdint>
#include <string>

#include "ir/graph.h"
#include "tensor/dtype.h"

namespace preheat::codegen {

// The storage type's name in generated text: "bf16", "f16", "f32". REQUIRES: a floating-point type.
std::string ElementName(tensor::DType dtype);

// Rows begin at multiples of this, so that no vector load of a row's valid elements crosses into another page
// or past the buffer: the widest vector we generate for.
inline constexpr int64_t kRowAlignBytes = 64;

// Elements from one row of an activation to the next, where a row is the innermost extent of `type`: that
// extent rounded up to kRowAlignBytes. What lies between a row's end and the next row is undefined: it may be
// read, never used. The same rule for every rank: partial results [splits, heads, head_dim + 2] have a row
// for each split and head. The logits operand (RegionOperand::kLogits) is the host's and dense: [rows, vocab]
// without padding. REQUIRES: the innermost extent is a number.
int64_t RowStride(const ir::Type& type);

// SplitAttention's `block` attribute is a multiple of this and at least this: it bounds the number of splits,
// so that BufferExtent can say how much room partial results need without knowing the block.
inline constexpr int64_t kSplitBlockUnit = 64;

}  // namespace preheat::codegen
