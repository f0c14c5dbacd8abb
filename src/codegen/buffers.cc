#include "codegen/buffers.h"

#include "base/check.h"
#include "codegen/codegen.h"
#include "tensor/dtype.h"

namespace preheat::codegen {
namespace {

constexpr int64_t RoundUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

std::string ElementName(tensor::DType dtype) {
  CHECK(tensor::IsFloat(dtype));
  return std::string(tensor::ShortName(dtype));
}

int64_t RowStride(const ir::Type& type) {
  const int64_t unit = kRowAlignBytes / static_cast<int64_t>(tensor::Bytes(type.dtype));
  return RoundUp(type.shape.back().size, unit);
}

program::Extent BufferExtent(const ir::Type& type) {
  int64_t bytes = RowStride(type) * static_cast<int64_t>(tensor::Bytes(type.dtype));
  // At most one extent is symbolic; the numbers before the innermost one multiply.
  ir::Dim::Symbol symbol = ir::Dim::Symbol::kNone;
  for (size_t i = 0; i + 1 < type.shape.size(); ++i) {
    if (type.shape[i].symbol == ir::Dim::Symbol::kNone) {
      bytes *= type.shape[i].size;
    } else {
      symbol = type.shape[i].symbol;
    }
  }
  switch (symbol) {
    case ir::Dim::Symbol::kNone:
      return {.fixed = bytes};
    case ir::Dim::Symbol::kRows:
      return {.per_row = bytes};
    case ir::Dim::Symbol::kPast:
    case ir::Dim::Symbol::kPositions:
      return {.per_position = bytes};
    // ceil(capacity / block) <= 1 + capacity / kSplitBlockUnit.
    case ir::Dim::Symbol::kSplits:
      return {.fixed = bytes, .per_position = RoundUp(bytes, kSplitBlockUnit) / kSplitBlockUnit};
  }
  return {};
}

}  // namespace preheat::codegen
