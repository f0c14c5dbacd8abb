#include "codegen/cuda/stage_body.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codegen/cuda/prelude.h"

namespace preheat::codegen::cuda {
namespace {

// Both kinds: the row as vectors, the last of which may be a part of one.
constexpr char kRowInVectors[] = R"text(
constexpr int kVectors = (int)(kStaged / LANES);
constexpr int kRest = (int)(kK % LANES);  // elements of the last vector; 0: all
template <class T> INLINE VF LoadVector(const T* row, int v) {
  return kRest != 0 && v == kVectors - 1 ? LoadTail(row + v * LANES, kRest) : Load(row + v * LANES);
}
template <class T> INLINE VF LoadDependentVector(const T* row, int v) {
  return kRest != 0 && v == kVectors - 1 ? LoadDependentTail(row + v * LANES, kRest) : LoadDependent(row + v * LANES);
}
template <class T> INLINE void LoadDependentRow(const T* row, VF* vectors) {
  UNROLL for (int v = 0; v < kVectors; ++v) vectors[v] = LoadDependentVector(row, v);
}
)text";

constexpr char kPlain[] = R"text(
struct Before {};
INLINE Before StageBefore(const ph_args*) { return {}; }
INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before&) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v]);
}
)text";

// x is what is staged already: it is copied, 16 bytes a thread at a time.
constexpr char kCopy[] = R"text(
struct Before {};
INLINE Before StageBefore(const ph_args*) { return {}; }
INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before&) {
  constexpr int kPer = kPer16<Element>, kPieces = (int)(kStaged / kPer), kWithX = (int)(kK / kPer);
  constexpr int kEach = (kPieces + kThreads - 1) / kThreads;
  const X* const x = Operand<const X>(args, kX) + row * kXStride;
  Words4 pieces[kEach];
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int piece = i * kThreads + ThreadIndex();
    pieces[i] = piece < kWithX ? LoadDependent16(x + piece * kPer) : Words4{};
  }
  UNROLL for (int i = 0; i < kEach; ++i) {
    const int piece = i * kThreads + ThreadIndex();
    if (piece < kPieces) *(Words4*)(to + piece * kPer) = pieces[i];
  }
}
)text";

constexpr char kNormWeights[] = R"text(
struct Before {
  VF weights[kVectors];
};
INLINE Before StageBefore(const ph_args* args) {
  const NormW* const weight = Operand<const NormW>(args, kNorm);
  Before before;
  UNROLL for (int v = 0; v < kVectors; ++v) before.weights[v] = LoadVector(weight, v);
  return before;
}
)text";

constexpr char kNorm[] = R"text(
INLINE void StageRow(const ph_args* args, i64 row, Element* to, const Before& before) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  VF squares = Splat(0);
  UNROLL for (int v = 0; v < kVectors; ++v) squares = Fma(vectors[v], vectors[v], squares);
  const VF scale = Splat(Rsqrt(Sum(squares) / (float)kK + kEps));
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v] * scale * before.weights[v]);
}
)text";

// Not scaled: returns the sum of squares that the scale is made of.
constexpr char kGain[] = R"text(
INLINE float StageRow(const ph_args* args, i64 row, Element* to, const Before& before) {
  VF vectors[kVectors];
  LoadDependentRow(Operand<const X>(args, kX) + row * kXStride, vectors);
  VF squares = Splat(0);
  UNROLL for (int v = 0; v < kVectors; ++v) squares = Fma(vectors[v], vectors[v], squares);
  UNROLL for (int v = 0; v < kVectors; ++v) StoreElements(to + v * LANES, vectors[v] * before.weights[v]);
  return Sum(squares);
}
)text";

}  // namespace

int64_t StagedElements(const matmul::Spec& spec, int threads) {
  const int64_t lanes = TeamLanes(threads);
  return (spec.k + lanes - 1) / lanes * lanes;
}

std::string StageWords(const ir::Graph& graph, const matmul::Spec& spec, int threads, int64_t scratch_at) {
  const tensor::DType element =
      spec.math == tensor::DType::kBf16 ? tensor::DType::kBf16 : tensor::DType::kF32;
  const bool copies = spec.prologue == matmul::Prologue::kNone && graph[spec.x].type.dtype == element &&
                      spec.k * static_cast<int64_t>(tensor::Bytes(element)) % 16 == 0;
  return TeamWords(threads, scratch_at, copies ? kCopy : StageBody(spec, ""));
}

std::string HandOnWords(const matmul::Spec& spec, int threads, int64_t scratch_at) {
  CHECK(spec.prologue == matmul::Prologue::kRmsNorm);
  return TeamWords(threads, scratch_at, std::string(kRowInVectors) + kNormWeights + kGain);
}

std::string StageBody(const matmul::Spec& spec, std::string_view rows) {
  CHECK(spec.prologue != matmul::Prologue::kMerge);
  std::string body = kRowInVectors;
  body += rows;
  if (spec.prologue == matmul::Prologue::kNone) return body + kPlain;
  return body + fmt::format("constexpr float kEps = {:.9e}f;\n", spec.eps) + kNormWeights + kNorm;
}

}  // namespace preheat::codegen::cuda
