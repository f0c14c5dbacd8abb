#include "codegen/row_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "codegen/buffers.h"
#include "codegen/embedding.h"
#include "codegen/unit_for_test.h"
#include "tensor/tensor_view.h"

namespace preheat::codegen {
namespace {

using ir::Dim;
using tensor::DType;

constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF16};

// `rows` rows of `width` random values as `dtype`, `stride` elements apart, NaN between; and the same as
// floats.
struct Matrix {
  Matrix(DType type, int64_t rows, int64_t row_width, int64_t row_stride)
      : dtype(type),
        width(row_width),
        stride(row_stride),
        bytes(static_cast<size_t>(rows * stride) * Bytes(type)) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    values.assign(static_cast<size_t>(rows * stride), std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < rows * width; ++i)
      values[static_cast<size_t>(i / width * stride + i % width)] = normal(random);
    tensor::StoreFloats(values, dtype, {bytes.data(), values.size() * Bytes(dtype)});
    Read();
  }
  void Read() {
    const tensor::TensorView view(dtype, {static_cast<int64_t>(values.size())},
                                  {bytes.data(), values.size() * Bytes(dtype)});
    view.ReadFloats(0, values);
  }
  float At(int64_t row, int64_t i) const { return values[static_cast<size_t>(row * stride + i)]; }

  DType dtype;
  int64_t width, stride;
  AlignedArray<std::byte> bytes;
  std::vector<float> values;
};

ir::Type Rows(DType dtype, int64_t width) {
  return {dtype, {Dim::Rows(), Dim::Of(width)}};
}

TEST(Embedding, RowsAreTheTablesRows) {
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : kDTypes) {
      for (const int64_t width : {64, 37}) {
        constexpr int64_t kVocab = 11;
        ir::Graph graph;
        graph.nodes = {{ir::Op::kIds, {}, {}, {DType::kI32, {Dim::Rows()}}},
                       {ir::Op::kWeight, {}, {}, {dtype, {Dim::Of(kVocab), Dim::Of(width)}}},
                       {ir::Op::kEmbedding, {0, 1}, {}, Rows(DType::kF32, width)}};
        ASSERT_TRUE(embedding::CanCompile(graph, 2, target));
        const Schedule schedule = embedding::Candidates(graph, 2, target, {}).front();
        const RegionCode code = embedding::Generate(graph, 2, target, {}, schedule);
        const UnitForTest unit(code.source, target);

        // The table ends where its last row does: sanitizers would see a read behind it.
        const Matrix table(dtype, kVocab, width, width);
        std::vector<int32_t> ids = {3, 0, 10, 3, -5, 11, std::numeric_limits<int32_t>::max()};
        const std::vector<int64_t> read = {3, 0, 10, 3, 0, 10, 10};
        const auto rows = static_cast<int64_t>(ids.size());
        Matrix result(DType::kF32, rows + 1, width, RowStride(graph[2].type));
        const Matrix before = Matrix(DType::kF32, rows + 1, width, RowStride(graph[2].type));
        RunLaunch(unit, code.launches[0],
                  {ids.data(), const_cast<std::byte*>(table.bytes.data()), result.bytes.data()}, rows, 0, 0);
        result.Read();
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t i = 0; i < width; ++i) {
            ASSERT_EQ(result.At(row, i), table.At(read[static_cast<size_t>(row)], i))
                << target.name << " row " << row;
          }
        }
        for (int64_t i = 0; i < width; ++i)
          ASSERT_EQ(result.At(rows, i), before.At(rows, i)) << "a row too many";
      }
    }
  }
}

TEST(RmsNorm, IsTheReference) {
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : kDTypes) {
      for (const int64_t width : {3072, 100, 5}) {
        for (const DType result_dtype : {DType::kF32, dtype}) {
          if (width == 5 && result_dtype != dtype) continue;
          constexpr double kEps = 1e-5;
          ir::Graph graph;
          graph.nodes = {{ir::Op::kCarry, {}, {}, Rows(dtype, width)},
                         {ir::Op::kWeight, {}, {}, {dtype, {Dim::Of(width)}}},
                         {ir::Op::kRmsNorm, {0, 1}, {{"eps", kEps}}, Rows(result_dtype, width)}};
          ASSERT_TRUE(row_ops::CanCompile(graph, 2, target));
          const Schedule schedule = row_ops::Candidates(graph, 2, target, {}).front();
          const RegionCode code = row_ops::Generate(graph, 2, target, {}, schedule);
          const UnitForTest unit(code.source, target);

          constexpr int64_t kRows = 6;
          const Matrix x(dtype, kRows, width, RowStride(graph[0].type));
          const Matrix weight(dtype, 1, width, width);
          Matrix result(result_dtype, kRows, width, RowStride(graph[2].type));
          RunLaunch(unit, code.launches[0],
                    {const_cast<std::byte*>(x.bytes.data()), const_cast<std::byte*>(weight.bytes.data()),
                     result.bytes.data()},
                    kRows, 0, 0);
          result.Read();
          // f32: a sum of `width` squares in parts, a root, two products; then the result's rounding.
          double bound = 1e-6;
          if (result_dtype == DType::kBf16) bound = 1.0 / 256;
          if (result_dtype == DType::kF16) bound = 1.0 / 1024;
          for (int64_t row = 0; row < kRows; ++row) {
            double squares = 0;
            for (int64_t i = 0; i < width; ++i) squares += double{x.At(row, i)} * x.At(row, i);
            const double factor = 1 / std::sqrt(squares / static_cast<double>(width) + kEps);
            for (int64_t i = 0; i < width; ++i) {
              const double expected = x.At(row, i) * factor * weight.At(0, i);
              ASSERT_NEAR(result.At(row, i), expected, bound * (std::abs(expected) + 1e-3))
                  << target.name << " " << tensor::Name(dtype) << " width " << width << " row " << row;
            }
          }
        }
      }
    }
  }
}

TEST(LastRow, IsTheLastValidRow) {
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const int64_t width : {64, 37}) {
        ir::Graph graph;
        graph.nodes = {{ir::Op::kCarry, {}, {}, Rows(dtype, width)},
                       {ir::Op::kLastRow, {0}, {}, {dtype, {Dim::Of(1), Dim::Of(width)}}}};
        ASSERT_TRUE(row_ops::CanCompile(graph, 1, target));
        const RegionCode code =
            row_ops::Generate(graph, 1, target, {}, row_ops::DefaultSchedule(graph, 1, target, {}));
        const UnitForTest unit(code.source, target);
        const Matrix x(dtype, 5, width, RowStride(graph[0].type));
        for (const int64_t rows : {1, 4}) {
          Matrix result(dtype, 1, width, RowStride(graph[1].type));
          RunLaunch(unit, code.launches[0], {const_cast<std::byte*>(x.bytes.data()), result.bytes.data()},
                    rows, 0, 0);
          result.Read();
          for (int64_t i = 0; i < width; ++i) ASSERT_EQ(result.At(0, i), x.At(rows - 1, i)) << target.name;
        }
      }
    }
  }
}

TEST(RowOps, GeneratedTextIsTheGolden) {
  const Target target = ParseTarget("x86-64-v3");
  ir::Graph graph;
  graph.nodes = {{ir::Op::kIds, {}, {}, {DType::kI32, {Dim::Rows()}}},
                 {ir::Op::kWeight, {}, {}, {DType::kBf16, {Dim::Of(320), Dim::Of(100)}}},
                 {ir::Op::kEmbedding, {0, 1}, {}, Rows(DType::kF32, 100)},
                 {ir::Op::kWeight, {}, {}, {DType::kBf16, {Dim::Of(100)}}},
                 {ir::Op::kRmsNorm, {2, 3}, {{"eps", 1e-5}}, Rows(DType::kBf16, 100)},
                 {ir::Op::kLastRow, {4}, {}, {DType::kBf16, {Dim::Of(1), Dim::Of(100)}}}};
  ExpectGolden("embedding.cc", WithoutPrelude(embedding::Generate(graph, 2, target, {}, {{"rows", 4}}).source,
                                              target, Unit::kF32));
  ExpectGolden("rms_norm.cc", WithoutPrelude(row_ops::Generate(graph, 4, target, {}, {{"rows", 4}}).source,
                                             target, Unit::kF32));
  ExpectGolden("last_row.cc",
               WithoutPrelude(row_ops::Generate(graph, 5, target, {}, {}).source, target, Unit::kF32));
}

TEST(Buffers, RowsArePaddedToWholeVectors) {
  EXPECT_EQ(RowStride(Rows(DType::kF32, 100)), 112);
  EXPECT_EQ(RowStride(Rows(DType::kBf16, 100)), 128);
  EXPECT_EQ(RowStride(Rows(DType::kBf16, 3072)), 3072);
  EXPECT_EQ(BufferExtent(Rows(DType::kF32, 100)), (program::Extent{.per_row = 448}));
  EXPECT_EQ(BufferExtent({DType::kI32, {Dim::Of(1)}}), (program::Extent{.fixed = 64}));
  EXPECT_EQ(BufferExtent({DType::kBf16, {Dim::Of(2), Dim::Positions(), Dim::Of(3), Dim::Of(64)}}),
            (program::Extent{.per_position = 2 * 3 * 64 * 2}));
  // Parts of 64 positions and more: 1000 positions are at most 16.
  const program::Extent partial = BufferExtent({DType::kF32, {Dim::Splits(), Dim::Of(3), Dim::Of(130)}});
  EXPECT_GE(partial.Bytes(1, 1000), 16 * 3 * 144 * 4);
}

}  // namespace
}  // namespace preheat::codegen
