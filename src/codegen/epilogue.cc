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
template <class T> INLINE VF LoadDependentRun(const T* p, int count) {
  return count == LANES ? LoadDependent(p) : LoadDependentTail(p, count);
}
template <class T> INLINE void StoreRun(T* p, VF v, int count) {
  if (count == LANES) {
    Store(p, v);
  } else {
    StoreTail(p, v, count);
  }
}
)text";

constexpr char kOutputAt[] = R"text(INLINE auto OutputAt(const ph_args* args, i64 row, i64 column) {
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

// What an epilogue reads beside the sums: a launcher asks for it before they are there.
constexpr char kEarlyNothing[] = R"text(
struct Early {};
INLINE Early Before(const ph_args*, i64, int, i64, int) { return {}; }
)text";

constexpr char kEarlyResidual[] = R"text(
struct Early {
  VF residual;
};
INLINE Early Before(const ph_args* args, i64 row, int, i64 column, int count) {
  return {LoadDependentRun(Operand<const Residual>(args, kResidual) + row * kResidualStride + column, count)};
}
)text";

constexpr char kEarlyResidualAndGain[] = R"text(
struct Early {
  VF residual, gain;
};
INLINE Early Before(const ph_args* args, i64 row, int, i64 column, int count) {
  return {LoadDependentRun(Operand<const Residual>(args, kResidual) + row * kResidualStride + column, count),
          LoadRun(Operand<const Gain>(args, kGain) + column, count)};
}
)text";

constexpr char kEarlyRotary[] = R"text(
constexpr i64 kHalf = kHeadDim / 2;

struct Early {
  VF cos, sin;
};
INLINE Early Before(const ph_args* args, i64 row, int part, i64 column, int count) {
  if (part == 2) return {VF{}, VF{}};
  const f32* turn = Operand<const f32>(args, kRotary) + (args->past + row) * kHeadDim + (u32)column % (u32)kHeadDim;  // [2][kHalf]
  return {LoadRun(turn, count), LoadRun(turn + kHalf, count)};
}
)text";

constexpr char kFinishStore[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early&) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0), count);
}
)text";

constexpr char kFinishAdd[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early& early) {
  StoreRun(OutputAt(args, row, column), Biased(args, part, column, count, y0) + early.residual, count);
}
)text";

// Also what the region that normalises the row multiplies, but for the row's scale; the squares that it is
// made of are returned.
constexpr char kFinishAddAndHandOn[] = R"text(
INLINE VF Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF, const Early& early) {
  const VF y = Biased(args, part, column, count, y0) + early.residual;
  StoreRun(OutputAt(args, row, column), y, count);
  StoreRun(Operand<Element>(args, kHandedRows) + row * kHandedStride + column, y * early.gain, count);
  return y * y;
}
)text";

constexpr char kFinishSiluMul[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int, i64 column, int count, VF y0, VF y1, const Early&) {
  const VF gate = Biased(args, 0, column, count, y0);
  const VF up = Biased(args, 1, column, count, y1);
  StoreRun(OutputAt(args, row, column), Silu(gate) * up, count);
}
)text";

constexpr char kAppend[] = R"text(
INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  CacheElement* cache = keys ? Operand<CacheElement>(args, kKeys) : Operand<CacheElement>(args, kValues);
  const i64 position = args->past + row;
  StoreEach<CacheElement>(y, count, [&](int i) {
    return cache + (keys ? KeyOffset(args->capacity, head, position, d + i) : ValueOffset(args->capacity, head, position, d + i));
  });
}
)text";

// The new position's rows go to the cache, and as words to those who attend now: keys, then values.
constexpr char kAppendAndHandOn[] = R"text(
INLINE void Append(const ph_args* args, i64 row, bool keys, i64 head, i64 d, int count, VF y) {
  StoreRun(Operand<Flagged<CacheElement>>(args, kFresh) + ((keys ? 0 : kKvHeads) + head) * kHeadDim + d, y, count);
  ToCache::Append(args, row, keys, head, d, count, y);
}
)text";

// Parts 0, 1, 2 are queries, keys, values; column = head * kHeadDim + d with d < kHalf.
constexpr char kFinishRotaryAppend[] = R"text(
INLINE void Finish(const ph_args* args, i64 row, int part, i64 column, int count, VF y0, VF y1, const Early& early) {
  const i64 head = (u32)column / (u32)kHeadDim, d = (u32)column % (u32)kHeadDim;
  y0 = Biased(args, part, column, count, y0);
  y1 = Biased(args, part, column + kHalf, count, y1);
  if (part != 2) {
    const VF turned = y0 * early.cos - y1 * early.sin;
    y1 = y1 * early.cos + y0 * early.sin;
    y0 = turned;
  }
  if (part != 0) {
    Append(args, row, part == 1, head, d, count, y0);
    Append(args, row, part == 1, head, d + kHalf, count, y1);
  } else {
    StoreRun(OutputAt(args, row, column), y0, count);
    StoreRun(OutputAt(args, row, column + kHalf), y1, count);
  }
}
)text";

std::string AppendOf(Handed handed) {
  if (handed == Handed::kPlain) return kAppend;
  return std::string("namespace ToCache {") + kAppend + "}\n" + kAppendAndHandOn;
}

std::string FinishOf(const Spec& spec, Handed handed) {
  switch (spec.epilogue) {
    case Epilogue::kStore:
      return std::string(kEarlyNothing) + kFinishStore;
    case Epilogue::kAdd:
      if (spec.gain != ir::kNoNode) return std::string(kEarlyResidualAndGain) + kFinishAddAndHandOn;
      return std::string(kEarlyResidual) + kFinishAdd;
    case Epilogue::kSiluMul:
      return std::string(kEarlyNothing) + kFinishSiluMul;
    case Epilogue::kRotaryAppend:
      return kEarlyRotary + AppendOf(handed) + kFinishRotaryAppend;
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
  if (spec.gain != ir::kNoNode) {
    operands->Add("kGain", {.node = spec.gain, .next_round = spec.gain_of_next_round});
    for (const int i : {0, 1}) {
      operands->Add(i == 0 ? "kHandedRows" : "kSquares", {.kind = RegionOperand::Kind::kHanded,
                                                          .node = spec.handed_to,
                                                          .workspace = i,
                                                          .access = Access::kWrite});
    }
  }
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

std::string FinishText(const Spec& spec, const ir::Graph& graph, const Target& target, Runs runs,
                       Handed handed) {
  std::string text;
  if (spec.epilogue == Epilogue::kRotaryAppend) {
    text += CachePrelude(CacheShapeOf(graph[spec.cache].type, target));
  }
  if (runs == Runs::kOfVectors) text += kRuns;
  text += kOutputAt;
  text += spec.parts[0].bias == ir::kNoNode ? kNoBias : kBias;
  text += FinishOf(spec, handed);
  return text;
}

}  // namespace preheat::codegen::matmul
