// The epilogues' text: finished sums to where they are kept.
#include <fmt/format.h>

#include "codegen/cache_layout.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::matmul {
namespace {

constexpr char kRuns[] = R"text(
template <class T> INLINE VF LoadRun(const T* p, int count) {
  return count == LANES ? Load(p) : LoadTail(p, count);
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) {
  if (count == LANES) {
    Store(p, v);
  } else {
    StoreTail(p, v, count);
  }
}
INLINE Out* OutputAt(const ph_args* args, i64 row, i64 column) {
  return Operand<Out>(args, kOut) + row * kOutStride + column;
}
)text";

constexpr char kNoBias[] = R"text(
INLINE VF Biased(const ph_args*, int, i64, int, VF y) { return y; }
)text";

constexpr char kBias[] = R"text(
INLINE VF Biased(const ph_args* args, int part, i64 column, int count, VF y) {
  return y + LoadRun(Operand<const Bias>(args, kBias0 + part) + column, count);
}
)text";

constexpr char kFinishStore[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0), count);
}
)text";

constexpr char kFinishAdd[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF) {
  const Residual* residual = Operand<const Residual>(args, kResidual) + row * kResidualStride + column;
  const VF y = Biased(args, part, column, count, y0) + LoadRun(residual, count);
  StoreRun(OutputAt(args, row, column), y, count);
}
)text";

constexpr char kFinishSiluMul[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int, i64 column, int count, VF y0, VF y1) {
  const VF gate = Biased(args, 0, column, count, y0);
  const VF up = Biased(args, 1, column, count, y1);
  StoreRun(OutputAt(args, row, column), Silu(gate) * up, count);
}
)text";

// Parts 0, 1, 2 are queries, keys, values; column = head * kHeadDim + d with d < kHalf.
constexpr char kFinishRotaryAppend[] = R"text(
constexpr i64 kHalf = kHeadDim / 2;

INLINE void AppendKeys(const ph_args* args, i64 row, i64 head, i64 d, int count, VF y) {
  CacheElement* keys = Operand<CacheElement>(args, kKeys);
  CacheElement rounded[LANES];
  Store(rounded, y);
  NO_UNROLL for (int i = 0; i < count; ++i) {
    keys[KeyOffset(args->capacity, head, args->past + row, d + i)] = rounded[i];
  }
}
INLINE void AppendValues(const ph_args* args, i64 row, i64 head, i64 d, int count, VF y) {
  CacheElement* values = Operand<CacheElement>(args, kValues);
  CacheElement rounded[LANES];
  Store(rounded, y);
  NO_UNROLL for (int i = 0; i < count; ++i) {
    values[ValueOffset(args->capacity, head, args->past + row, d + i)] = rounded[i];
  }
}

INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF y1) {
  const i64 head = column / kHeadDim, d = column % kHeadDim;
  y0 = Biased(args, part, column, count, y0);
  y1 = Biased(args, part, column + kHalf, count, y1);
  if (part == 2) {
    AppendValues(args, row, head, d, count, y0);
    AppendValues(args, row, head, d + kHalf, count, y1);
    return;
  }
  const f32* turn = Operand<const f32>(args, kRotary) + (args->past + row) * kHeadDim;  // [2][kHalf]
  const VF cos = LoadRun(turn + d, count), sin = LoadRun(turn + kHalf + d, count);
  const VF turned0 = y0 * cos - y1 * sin;
  const VF turned1 = y1 * cos + y0 * sin;
  if (part == 1) {
    AppendKeys(args, row, head, d, count, turned0);
    AppendKeys(args, row, head, d + kHalf, count, turned1);
  } else {
    StoreRun(OutputAt(args, row, column), turned0, count);
    StoreRun(OutputAt(args, row, column + kHalf), turned1, count);
  }
}
)text";

const char* FinishOf(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::kStore:
      return kFinishStore;
    case Epilogue::kAdd:
      return kFinishAdd;
    case Epilogue::kSiluMul:
      return kFinishSiluMul;
    case Epilogue::kRotaryAppend:
      return kFinishRotaryAppend;
  }
  return "";
}

}  // namespace

void AddProductOperands(const Spec& spec, OperandList* operands) {
  using Access = program::Operand::Access;
  for (size_t p = 0; p < spec.parts.size(); ++p) {
    operands->AddNode(fmt::format("kWeight{}", p), spec.parts[p].weight, Access::kRead);
  }
  for (size_t p = 0; p < spec.parts.size(); ++p) {
    if (spec.parts[p].bias == ir::kNoNode) continue;
    operands->AddNode(fmt::format("kBias{}", p), spec.parts[p].bias, Access::kRead);
  }
  if (spec.epilogue == Epilogue::kAdd) operands->AddNode("kResidual", spec.residual, Access::kRead);
  if (spec.epilogue == Epilogue::kRotaryAppend) {
    operands->Add("kRotary", {.kind = RegionOperand::Kind::kRotary, .access = Access::kRead});
    operands->Add("kKeys", {.kind = RegionOperand::Kind::kKeyCache, .access = Access::kReadWrite});
    operands->Add("kValues", {.kind = RegionOperand::Kind::kValueCache, .access = Access::kReadWrite});
  }
  if (spec.to_logits) {
    operands->Add("kOut",
                  {.kind = RegionOperand::Kind::kLogits, .node = spec.node, .access = Access::kWrite});
  } else {
    operands->AddNode("kOut", spec.node, Access::kWrite);
  }
}

std::string FinishText(const Spec& spec, const ir::Graph& graph, const Target& target) {
  std::string text;
  if (spec.epilogue == Epilogue::kRotaryAppend) {
    text += CachePrelude(CacheShapeOf(graph[spec.cache].type, target));
  }
  text += kRuns;
  text += spec.parts[0].bias == ir::kNoNode ? kNoBias : kBias;
  text += FinishOf(spec.epilogue);
  return text;
}

}  // namespace preheat::codegen::matmul
