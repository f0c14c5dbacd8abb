#include "codegen/cuda/wgmma.h"

#include <fmt/format.h>

#include "codegen/cuda/machine_hopper.h"
#include "codegen/cuda/prelude.h"
#include "codegen/cuda/wgmma_body.h"
#include "codegen/matmul_text.h"

namespace preheat::codegen::cuda {
namespace {

using matmul::Epilogue;
using matmul::Spec;
using program::TensorMap;

constexpr int64_t kElementBytes = 2;
constexpr int kSwizzle = 128;

TensorMap MapOf(int operand, std::vector<TensorMap::Dim> dims) {
  return {.operand = operand,
          .element = tensor::DType::kBf16,
          .swizzle_bytes = kSwizzle,
          .dims = std::move(dims)};
}

TensorMap MapOfWeights(const Spec& spec, const WgmmaShape& shape, int operand, int64_t columns) {
  const int64_t row_bytes = spec.k * kElementBytes;
  const TensorMap::Dim k = {spec.k, kElementBytes, static_cast<int>(kWgmmaStep)};
  if (spec.epilogue != Epilogue::kRotaryAppend) {
    const int64_t box = shape.numbers().columns / shape.boxes();
    return MapOf(operand, {k, {columns, row_bytes, static_cast<int>(box)}});
  }
  // Columns d and d + half of a head in one box.
  const int64_t half = spec.head_dim / 2;
  return MapOf(operand, {k,
                         {half, row_bytes, static_cast<int>(shape.numbers().pairs)},
                         {2, half * row_bytes, 2},
                         {columns / spec.head_dim, spec.head_dim * row_bytes, 1}});
}

}  // namespace

std::string WgmmaText(const ir::Graph& graph, const Spec& spec, const Target& target,
                      const WgmmaShape& shape) {
  std::string text = HopperMachine({.matrices = static_cast<int>(shape.numbers().columns)});
  text += kTurn;
  text += shape.Constants();
  text += fmt::format("constexpr int kParts = {};\n", spec.parts.size());
  text += kWgmmaOpening;
  const std::string finish = matmul::FinishText(spec, graph, target, matmul::Runs::kOfTheDialect);
  switch (spec.epilogue) {
    case Epilogue::kStore:
    case Epilogue::kAdd:
      text += kWgmmaPlainColumns;
      break;
    case Epilogue::kSiluMul:
      text += kWgmmaListColumns;
      break;
    case Epilogue::kRotaryAppend:
      text += fmt::format("constexpr int kPairs = {}, kHeadColumns = {};\n", shape.numbers().pairs,
                          spec.head_dim);
      text += kWgmmaHeadColumns;
      break;
  }
  text += shape.numbers().handed > 0 ? kWgmmaScales : kWgmmaNoScales;
  text += kWgmmaSlices;
  if (spec.epilogue == Epilogue::kSiluMul) {
    text += std::string("namespace fragment {") + kFragmentWords + finish + "}  // namespace fragment\n";
    text += kWgmmaFinishFragments;
  } else {
    text += QuadWords(finish);
    text += shape.numbers().hands_on != 0 ? kWgmmaHandsOn : kWgmmaKeepsResult;
    text += kWgmmaFinishRows;
  }
  text += kWgmmaKernel;
  return text;
}

void ShapeWgmmaLaunch(const Spec& spec, const WgmmaShape& shape, const WgmmaX& x, RegionLaunch* launch) {
  const WgmmaNumbers& n = shape.numbers();
  launch->tiles = {shape.BlocksOfRowGroup(), program::TileCount::Per::kRows, shape.RowsOfRowGroup()};
  launch->blocks = {.threads = static_cast<int>(shape.threads()),
                    .blocks_per_sm = n.persistent != 0 ? 1 : 0,
                    .shared_bytes = shape.shared_bytes(),
                    .cluster = shape.cluster() > 1 ? static_cast<int>(shape.cluster()) : 0};
  launch->tensor_maps.push_back(
      MapOf(x.operand, {{spec.k, kElementBytes, static_cast<int>(kWgmmaStep)},
                        {0, x.stride * kElementBytes, static_cast<int>(n.rows / n.share_x)}}));
  for (size_t p = 0; p < spec.parts.size(); ++p) {
    const int operand = x.operand + 1 + static_cast<int>(p);  // the parts' weights follow x
    launch->tensor_maps.push_back(MapOfWeights(spec, shape, operand, spec.parts[p].columns));
  }
}

}  // namespace preheat::codegen::cuda
