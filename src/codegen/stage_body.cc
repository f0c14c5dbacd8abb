// The prologues' text: one row of x to one row of multiplicands.
#include <fmt/format.h>

#include "codegen/matmul_text.h"

namespace preheat::codegen::matmul {
namespace {

constexpr char kStagePlain[] = R"text(
INLINE void StageRow(const ph_args* args, i64 row, Element* to) {
  const X* x = Operand<const X>(args, kX) + row * kXStride;
  for (i64 k = 0; k < kWhole; k += LANES) StoreElements(to + k, Load(x + k));
  if constexpr (kRest != 0) StoreElements(to + kWhole, LoadTail(x + kWhole, kRest));
  ClearFrom(kWhole + (kRest != 0 ? LANES : 0), to);
}
)text";

constexpr char kStageRmsNorm[] = R"text(
INLINE void StageRow(const ph_args* args, i64 row, Element* to) {
  const X* x = Operand<const X>(args, kX) + row * kXStride;
  const NormW* weight = Operand<const NormW>(args, kNorm);
  VF squares[4] = {};
  i64 k = 0;
  for (; k + 4 * LANES <= kWhole; k += 4 * LANES) {
    UNROLL for (int i = 0; i < 4; ++i) {
      const VF v = Load(x + k + i * LANES);
      squares[i] = Fma(v, v, squares[i]);
    }
  }
  for (; k < kWhole; k += LANES) {
    const VF v = Load(x + k);
    squares[0] = Fma(v, v, squares[0]);
  }
  if constexpr (kRest != 0) {
    const VF v = LoadTail(x + kWhole, kRest);
    squares[0] = Fma(v, v, squares[0]);
  }
  const float mean = Sum((squares[0] + squares[1]) + (squares[2] + squares[3])) / (float)kK;
  const VF scale = Splat(Rsqrt(mean + kEps));
  for (k = 0; k < kWhole; k += LANES) StoreElements(to + k, Load(x + k) * scale * Load(weight + k));
  if constexpr (kRest != 0) {
    StoreElements(to + kWhole, LoadTail(x + kWhole, kRest) * scale * LoadTail(weight + kWhole, kRest));
  }
  ClearFrom(kWhole + (kRest != 0 ? LANES : 0), to);
}
)text";

// x is what SplitAttention left: for each split of kSplitBlock positions and each head, the unnormalised
// output o[head_dim] for scores relative to m, then m, then l, the sum of the weights.
constexpr char kStageMerge[] = R"text(
INLINE void StageRow(const ph_args* args, i64, Element* to) {
  constexpr int kVectors = (kMergeHeadDim + LANES - 1) / LANES;
  const X* x = Operand<const X>(args, kX);
  const i64 splits = (args->past + args->rows + kSplitBlock - 1) / kSplitBlock;
  ClearFrom(kWhole, to);  // first, since the last head's last vector may be a part of one
  for (i64 head = 0; head < kMergeHeads; ++head) {
    const X* part = x + head * kXStride;
    constexpr i64 kNext = kMergeHeads * kXStride;
    float largest = Get(part + kMergeHeadDim);
    for (i64 s = 1; s < splits; ++s) {
      const float m = Get(part + s * kNext + kMergeHeadDim);
      if (m > largest) largest = m;
    }
    VF output[kVectors] = {};
    float total = 0;
    for (i64 s = 0; s < splits; ++s, part += kNext) {
      const VF weight = Exp(Splat(Get(part + kMergeHeadDim) - largest));
      total += weight[0] * Get(part + kMergeHeadDim + 1);
      UNROLL for (int i = 0; i < kVectors; ++i) output[i] = Fma(Load(part + i * LANES), weight, output[i]);
    }
    const VF scale = Splat(1.0f / total);
    UNROLL for (int i = 0; i < kVectors; ++i) {
      Element* run = to + head * kMergeHeadDim + i * LANES;
      const int count = kMergeHeadDim - i * LANES;
      if (count >= LANES) {
        StoreElements(run, output[i] * scale);
      } else {
        StoreElementsTail(run, output[i] * scale, count);
      }
    }
  }
}
)text";

constexpr char kClear[] = R"text(
constexpr i64 kWhole = kK / LANES * LANES;
constexpr int kRest = kK % LANES;

// Zeros from `begin`, a multiple of LANES, to kStaged.
INLINE void ClearFrom(i64 begin, Element* to) {
  for (i64 k = begin; k < kStaged; k += LANES) StoreElements(to + k, (VF){});
}
)text";

}  // namespace

void AddStageOperands(const Spec& spec, OperandList* operands) {
  operands->AddNode("kX", spec.x, program::Operand::Access::kRead);
  if (spec.prologue == Prologue::kRmsNorm) {
    operands->AddNode("kNorm", spec.norm, program::Operand::Access::kRead);
  }
}

std::string StageText(const Spec& spec) {
  switch (spec.prologue) {
    case Prologue::kNone:
      return std::string(kClear) + kStagePlain;
    case Prologue::kRmsNorm:
      return fmt::format("constexpr float kEps = {:.9e}f;\n", spec.eps) + kClear + kStageRmsNorm;
    case Prologue::kMerge:
      return fmt::format(
                 "constexpr i64 kSplitBlock = {}, kMergeHeads = {};\nconstexpr int kMergeHeadDim = {};\n",
                 spec.split_block, spec.merge_heads, spec.merge_head_dim) +
             kClear + kStageMerge;
  }
  return "";
}

}  // namespace preheat::codegen::matmul
