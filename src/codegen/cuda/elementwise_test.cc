// Each operation that passes would fuse, as a kernel of its own, against plain arithmetic: awkward widths,
// every type, more rows than one, and no read of what another kernel made before the wait.
#include "codegen/cuda/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "codegen/buffers.h"
#include "codegen/cuda/cuda_unit_for_test.h"
#include "tensor/tensor_view.h"

namespace preheat::codegen::cuda {
namespace {

using ir::Dim;
using ir::Op;
using tensor::DType;

constexpr int64_t kRows = 3, kPast = 5, kCapacity = 16;

ir::Type Rows(DType dtype, int64_t width) {
  return {dtype, {Dim::Rows(), Dim::Of(width)}};
}

// Values of any type in memory; rows `stride` apart.
struct Data {
  Data(DType type, int64_t count, uint32_t seed = 0)
      : dtype(type), values(static_cast<size_t>(count)), bytes(values.size() * tensor::Bytes(type)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    if (seed != 0) {
      for (float& value : values) value = normal(random);
    }
    tensor::StoreFloats(values, dtype, bytes);
    Read();
  }
  void Read() {
    tensor::TensorView(dtype, {static_cast<int64_t>(values.size())}, bytes).ReadFloats(0, values);
  }
  float At(int64_t i) const { return values[static_cast<size_t>(i)]; }
  void* address() { return bytes.data(); }

  DType dtype;
  std::vector<float> values;
  std::vector<std::byte> bytes;
};

Data RandomRows(DType dtype, int64_t width, uint32_t seed) {
  return Data(dtype, kRows * RowStride(Rows(dtype, width)), seed);
}

// Runs node `id`'s one launch; operands as the launch lists them, the `dependent` first ones made by another
// kernel.
void RunNode(const ir::Graph& graph, ir::NodeId id, std::vector<Data*> operands, size_t dependent) {
  const Target target = ParseTarget("sm_90a");
  ASSERT_TRUE(elementwise::CanCompile(graph, id, target));
  const RegionCode code = elementwise::Generate(graph, id, target);
  const RegionLaunch& launch = code.launches.at(0);
  ASSERT_EQ(launch.operands.size(), operands.size());
  ph_gpu_args args{};
  args.rows = kRows;
  args.past = kPast;
  args.capacity = kCapacity;
  args.tiles = launch.tiles.Tiles(kRows, kPast);
  HostLaunch host = {.grid = static_cast<int>(args.tiles), .threads = launch.blocks.threads};
  for (size_t i = 0; i < operands.size(); ++i) {
    args.operands[i] = operands[i]->address();
    host.ranges.push_back({operands[i]->address(), operands[i]->bytes.size(),
                           i < dependent ? HostAccess::kDependent : HostAccess::kImmutable});
  }
  host.params = BytesOf(args);
  const CudaUnitForTest unit(code.source);
  ASSERT_EQ(unit.log(), "");
  ASSERT_EQ(unit.Run(launch.entry, host).error, "");
}

double Rounding(DType dtype) {
  return dtype == DType::kBf16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-10 : 0x1p-20;
}

void ExpectNear(float actual, double expected, DType dtype, const std::string& what) {
  ASSERT_NEAR(actual, expected, Rounding(dtype) * (std::abs(expected) + 1e-2)) << what;
}

class Elementwise : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers";
  }
  const DType dtype_ = GetParam();
};

TEST_P(Elementwise, AddAndMulOfTwoTypes) {
  for (const int64_t width : {int64_t{1}, int64_t{300}, int64_t{1025}}) {
    for (const Op op : {Op::kAdd, Op::kMul}) {
      ir::Graph graph;
      graph.nodes = {{Op::kCarry, {}, {}, Rows(DType::kF32, width)},
                     {Op::kCarry, {}, {}, Rows(dtype_, width)},
                     {op, {0, 1}, {}, Rows(dtype_, width)}};
      Data a = RandomRows(DType::kF32, width, 1), b = RandomRows(dtype_, width, 2);
      Data result = RandomRows(dtype_, width, 0);
      RunNode(graph, 2, {&a, &b, &result}, 2);
      result.Read();
      const int64_t a_stride = RowStride(graph[0].type), b_stride = RowStride(graph[1].type);
      for (int64_t row = 0; row < kRows; ++row) {
        for (int64_t d = 0; d < b_stride; ++d) {
          const double x = d < width ? a.At(row * a_stride + d) : 0, y = b.At(row * b_stride + d);
          const double expected = d >= width ? 0 : op == Op::kAdd ? x + y : x * y;
          ExpectNear(result.At(row * b_stride + d), expected, dtype_, "padding stays as it was");
        }
      }
    }
  }
}

TEST_P(Elementwise, Silu) {
  constexpr int64_t kWidth = 300;
  ir::Graph graph;
  graph.nodes = {{Op::kCarry, {}, {}, Rows(dtype_, kWidth)}, {Op::kSilu, {0}, {}, Rows(dtype_, kWidth)}};
  Data x = RandomRows(dtype_, kWidth, 1), result = RandomRows(dtype_, kWidth, 0);
  RunNode(graph, 1, {&x, &result}, 1);
  result.Read();
  const int64_t stride = RowStride(graph[0].type);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t d = 0; d < kWidth; ++d) {
      const double value = x.At(row * stride + d);
      ExpectNear(result.At(row * stride + d), value / (1 + std::exp(-value)), dtype_, "silu");
    }
  }
}

TEST_P(Elementwise, RotaryTurnsPairsByTheTablesAngles) {
  constexpr int64_t kHeads = 5, kHeadDim = 6, kHalf = kHeadDim / 2, kWidth = kHeads * kHeadDim;
  ir::Graph graph;
  graph.nodes = {{Op::kCarry, {}, {}, Rows(dtype_, kWidth)},
                 {Op::kRotary, {0}, {{"head_dim", kHeadDim}}, Rows(dtype_, kWidth)}};
  Data x = RandomRows(dtype_, kWidth, 1), result = RandomRows(dtype_, kWidth, 0);
  Data table(DType::kF32, kCapacity * 2 * kHalf, 3);
  RunNode(graph, 1, {&x, &table, &result}, 1);
  result.Read();
  const int64_t stride = RowStride(graph[0].type);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t d = 0; d < kHalf; ++d) {
        const int64_t at = row * stride + head * kHeadDim + d, turn = (kPast + row) * 2 * kHalf + d;
        const double c = table.At(turn), s = table.At(turn + kHalf), a = x.At(at), b = x.At(at + kHalf);
        const double size = std::abs(a) + std::abs(b);
        ASSERT_NEAR(result.At(at), a * c - b * s, 3 * Rounding(dtype_) * size);
        ASSERT_NEAR(result.At(at + kHalf), b * c + a * s, 3 * Rounding(dtype_) * size);
      }
    }
  }
}

TEST_P(Elementwise, AppendWritesItsPositionsAndNoOthers) {
  constexpr int64_t kKvHeads = 3, kHeadDim = 10, kWidth = kKvHeads * kHeadDim;
  ir::Graph graph;
  graph.nodes = {
      {Op::kKvCache, {}, {}, {dtype_, {Dim::Of(2), Dim::Past(), Dim::Of(kKvHeads), Dim::Of(kHeadDim)}}},
      {Op::kCarry, {}, {}, Rows(dtype_, kWidth)},
      {Op::kCarry, {}, {}, Rows(DType::kF32, kWidth)},
      {Op::kAppend,
       {0, 1, 2},
       {},
       {dtype_, {Dim::Of(2), Dim::Positions(), Dim::Of(kKvHeads), Dim::Of(kHeadDim)}}}};
  Data k = RandomRows(dtype_, kWidth, 1), v = RandomRows(DType::kF32, kWidth, 2);
  Data keys(dtype_, kKvHeads * kCapacity * kHeadDim), values(dtype_, kKvHeads * kCapacity * kHeadDim);
  RunNode(graph, 3, {&k, &v, &keys, &values}, 2);
  keys.Read();
  values.Read();
  for (int64_t head = 0; head < kKvHeads; ++head) {
    for (int64_t position = 0; position < kCapacity; ++position) {
      const int64_t row = position - kPast;
      const bool is_new = row >= 0 && row < kRows;
      for (int64_t d = 0; d < kHeadDim; ++d) {
        const int64_t at = (head * kCapacity + position) * kHeadDim + d, from = head * kHeadDim + d;
        const double key = is_new ? k.At(row * RowStride(graph[1].type) + from) : 0;
        const double value = is_new ? v.At(row * RowStride(graph[2].type) + from) : 0;
        ExpectNear(keys.At(at), key, dtype_, "key");
        ExpectNear(values.At(at), value, dtype_, "value");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Elementwise, ::testing::Values(DType::kF32, DType::kBf16, DType::kF16),
                         [](const auto& subject) { return std::string(tensor::ShortName(subject.param)); });

}  // namespace
}  // namespace preheat::codegen::cuda
