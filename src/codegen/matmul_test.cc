// Generated matmuls against a plain reference, on every target that this processor runs.
#include "codegen/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "codegen/matmul_for_test.h"

namespace preheat::codegen {
namespace {

constexpr double kEpsF32 = 0x1p-24;
constexpr double kEpsBf16 = 0x1p-9;

double Rounding(DType dtype) {
  switch (dtype) {
    case DType::kBf16:
      return kEpsBf16;
    case DType::kF16:
      return 0x1p-12;
    default:
      return kEpsF32;
  }
}

// A value and how far a right implementation may be from it.
struct Bounded {
  double value = 0;
  double error = 0;
};

struct Reference {
  const MatmulData& d;

  std::vector<double> Multiplicands(int64_t row) const {
    const MatmulCase& c = d.c;
    std::vector<double> a(static_cast<size_t>(c.k));
    if (c.prologue == "merge") {
      const int64_t heads = c.k / c.head_dim;
      for (int64_t h = 0; h < heads; ++h) {
        double largest = -1e30, total = 0;
        for (int64_t s = 0; s < d.Splits(); ++s)
          largest = std::max(largest, d.x.At(s * heads + h, c.head_dim));
        for (int64_t s = 0; s < d.Splits(); ++s) {
          const double weight = std::exp(d.x.At(s * heads + h, c.head_dim) - largest);
          total += weight * d.x.At(s * heads + h, c.head_dim + 1);
          for (int64_t i = 0; i < c.head_dim; ++i) {
            a[static_cast<size_t>(h * c.head_dim + i)] += weight * d.x.At(s * heads + h, i);
          }
        }
        for (int64_t i = 0; i < c.head_dim; ++i) a[static_cast<size_t>(h * c.head_dim + i)] /= total;
      }
    } else {
      double squares = 0;
      for (int64_t i = 0; i < c.k; ++i) squares += d.x.At(row, i) * d.x.At(row, i);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(c.k) + 1e-5);
      for (int64_t i = 0; i < c.k; ++i) {
        const double x = d.x.At(row, i);
        a[static_cast<size_t>(i)] = c.prologue == "rms_norm" ? x * scale * d.norm.At(0, i) : x;
      }
    }
    for (double& v : a) {
      v = c.math == "bf16" ? tensor::RoundToBf16(static_cast<float>(v)) : static_cast<float>(v);
    }
    return a;
  }

  Bounded Product(const std::vector<double>& a, size_t part, int64_t column) const {
    double sum = 0, magnitude = 0, largest = 0;
    for (int64_t i = 0; i < d.c.k; ++i) {
      const double product = a[static_cast<size_t>(i)] * d.weights[part].At(column, i);
      sum += product;
      magnitude += std::abs(product);
      largest = std::max(largest, std::abs(product));
    }
    // Each addition rounds. Where a was computed, an element near the middle of two bf16 may be rounded to
    // the other: rare enough that no row has more than three.
    double error = (static_cast<double>(d.c.k) * 2 + 8) * kEpsF32 * magnitude + 1e-30;
    if (d.c.prologue != "none") error += 16 * kEpsF32 * magnitude;
    if (d.c.prologue != "none" && d.c.math == "bf16") error += 3 * 2 * kEpsBf16 * largest;
    if (d.c.bias) sum += d.biases[part].At(0, column);
    return {sum, error};
  }

  static Bounded Turn(const Bounded& x, const Bounded& y, double cos, double sin) {
    const double value = x.value * cos + y.value * sin;
    return {value, std::abs(cos) * x.error + std::abs(sin) * y.error +
                       4 * kEpsF32 * (std::abs(x.value * cos) + std::abs(y.value * sin))};
  }
  // Rotary of column `column` of a part at the row's position.
  Bounded Rotated(const std::vector<double>& a, size_t part, int64_t row, int64_t column) const {
    const int64_t half = d.c.head_dim / 2, in_head = column % d.c.head_dim;
    const int64_t turn = in_head % half;
    const double cos = d.rotary.At(d.past + row, turn), sin = d.rotary.At(d.past + row, half + turn);
    const Bounded y = Product(a, part, column);
    const Bounded other = Product(a, part, in_head < half ? column + half : column - half);
    return Turn(y, other, cos, in_head < half ? -sin : sin);
  }

  Bounded Output(const std::vector<double>& a, int64_t row, int64_t column) const {
    const Bounded y = Product(a, 0, column);
    if (d.c.epilogue == "add") return {y.value + d.residual.At(row, column), y.error};
    if (d.c.epilogue == "rotary_append") return Rotated(a, 0, row, column);
    if (d.c.epilogue == "silu_mul") {
      const Bounded up = Product(a, 1, column);
      const double silu = y.value / (1 + std::exp(-y.value));
      return {silu * up.value, 1.1 * y.error * std::abs(up.value) + (std::abs(silu) + y.error) * up.error +
                                   8 * kEpsF32 * std::abs(silu * up.value)};
    }
    return y;
  }
};

void ExpectNear(const Bounded& expected, double actual, DType dtype, const std::string& where) {
  const double bound = expected.error * (1 + kEpsBf16) + 2 * Rounding(dtype) * std::abs(expected.value) +
                       (dtype == DType::kF16 ? 1e-7 : 0);
  ASSERT_LE(std::abs(actual - expected.value), bound)
      << where << ": " << actual << " instead of " << expected.value;  // also false for NaN
}

// The KV cache after a run: rows past .. past + rows - 1 hold what was appended, all else is still NaN.
void CheckCache(const MatmulData& d, const Target& target, const Reference& reference) {
  const CacheShape shape = CacheShapeOf(d.g.graph[d.g.cache].type, target);
  const auto key_offset = [&](int64_t head, int64_t position, int64_t i) {
    const int64_t block = head * (d.capacity / shape.key_positions) + position / shape.key_positions;
    return ((block * (shape.head_dim / shape.key_dims) + i / shape.key_dims) * shape.key_positions +
            position % shape.key_positions) *
               shape.key_dims +
           i % shape.key_dims;
  };
  const auto value_offset = [&](int64_t head, int64_t position, int64_t i) {
    const int64_t block = head * (d.capacity / shape.value_positions) + position / shape.value_positions;
    return (block * shape.head_dim + i) * shape.value_positions + position % shape.value_positions;
  };
  for (int64_t position = 0; position < d.capacity; ++position) {
    const int64_t row = position - d.past;
    const bool valid = row >= 0 && row < d.rows;
    const std::vector<double> a = valid ? reference.Multiplicands(row) : std::vector<double>();
    for (int64_t column = 0; column < d.c.columns[1]; ++column) {
      const int64_t head = column / shape.head_dim, i = column % shape.head_dim;
      const double key = ReadElement(d.keys.bytes.data(), d.c.cache, key_offset(head, position, i));
      const double value = ReadElement(d.values.bytes.data(), d.c.cache, value_offset(head, position, i));
      if (!valid) {
        ASSERT_TRUE(std::isnan(key) && std::isnan(value)) << "position " << position << " was written";
        continue;
      }
      const std::string where = "position " + std::to_string(position) + " column " + std::to_string(column);
      ExpectNear(reference.Rotated(a, 1, row, column), key, d.c.cache, "key " + where);
      ExpectNear(reference.Product(a, 2, column), value, d.c.cache, "value " + where);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void CheckOutput(const MatmulData& d, const Reference& reference) {
  for (int64_t row = 0; row < d.max_rows; ++row) {
    const bool valid = row < d.rows;
    const std::vector<double> a = valid ? reference.Multiplicands(row) : std::vector<double>();
    for (int64_t column = 0; column < d.out.stride; ++column) {
      const double y = d.out.At(row, column);
      const std::string where = "row " + std::to_string(row) + " column " + std::to_string(column);
      if (!valid || column >= d.out.columns) {
        ASSERT_TRUE(std::isnan(y)) << where << " was written";
      } else {
        ExpectNear(reference.Output(a, row, column), y, d.c.out, where);
      }
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void CheckRows(const MatmulCase& c, const Target& target, const UnitForTest& unit, const RegionCode& code,
               int64_t rows) {
  const MatmulGraph g = MakeGraph(c);
  MatmulData d(c, g, rows, c.prologue == "merge" ? 150 : c.epilogue == "rotary_append" ? 5 : 0);
  SCOPED_TRACE(c.Name() + " on " + target.name + ", rows " + std::to_string(rows));
  d.Run(unit, code);
  const Reference reference{d};
  CheckOutput(d, reference);
  if (!testing::Test::HasFatalFailure() && c.epilogue == "rotary_append") CheckCache(d, target, reference);
}

// Every prologue, epilogue, type; sizes that are multiples of nothing.
std::vector<MatmulCase> Cases() {
  return {
      {.k = 64, .columns = {64}},
      {.k = 33, .columns = {7}, .x = DType::kBf16},
      {.k = 1, .columns = {1}, .math = "f32"},
      {.k = 576, .columns = {192}, .x = DType::kBf16, .out = DType::kBf16},
      {.k = 192, .columns = {300}, .logits = true},
      {.k = 130, .columns = {65}, .weight = DType::kF16, .x = DType::kF16, .out = DType::kF16, .math = "f32"},
      {.k = 96, .columns = {50}, .weight = DType::kF32, .math = "f32", .bias = true},
      {.k = 66, .columns = {40}, .weight = DType::kF16, .x = DType::kBf16, .bias = true},
      {.prologue = "rms_norm", .k = 100, .columns = {96}},
      {.prologue = "rms_norm", .epilogue = "silu_mul", .k = 64, .columns = {192, 192}, .out = DType::kBf16},
      {.prologue = "rms_norm",
       .epilogue = "silu_mul",
       .k = 47,
       .columns = {29, 29},
       .weight = DType::kF32,
       .math = "f32",
       .bias = true},
      {.epilogue = "add", .k = 192, .columns = {64}, .x = DType::kBf16, .bias = true},
      {.epilogue = "add", .k = 35, .columns = {33}, .weight = DType::kF32, .math = "f32"},
      {.prologue = "rms_norm",
       .epilogue = "rotary_append",
       .k = 64,
       .columns = {64, 32, 32},
       .out = DType::kBf16,
       .bias = true,
       .head_dim = 16},
      {.prologue = "rms_norm",
       .epilogue = "rotary_append",
       .k = 97,
       .columns = {72, 24, 24},
       .weight = DType::kF32,
       .math = "f32",
       .head_dim = 12,
       .cache = DType::kF32},
      {.epilogue = "rotary_append",
       .k = 64,
       .columns = {256, 128, 128},
       .head_dim = 128,
       .cache = DType::kF16},
  };
}

TEST(Matmul, PanelsAgreeWithTheReferenceAtAnyNumberOfRows) {
  for (const Target& target : TargetsHere()) {
    for (const MatmulCase& c : Cases()) {
      const MatmulGraph g = MakeGraph(c);
      Schedule schedule = matmul::DefaultSchedule(g.graph, g.matmul, target, {});
      schedule["row_block"] = 24;  // so that 33 and 128 rows are several blocks
      if (c.k > 64) schedule["kc"] = 64;
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {}, schedule);
      const UnitForTest unit(code.source, target);
      for (const int64_t rows : {1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 128}) {
        if (rows == 128 && c.k > 100) continue;
        CheckRows(c, target, unit, code, rows);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Matmul, OneRowAgreesWithTheReference) {
  std::vector<MatmulCase> cases = Cases();
  cases.push_back({.prologue = "merge", .epilogue = "add", .k = 64, .columns = {40}, .head_dim = 16});
  cases.push_back({.prologue = "merge",
                   .epilogue = "add",
                   .k = 36,
                   .columns = {17},
                   .weight = DType::kF32,
                   .math = "f32",
                   .bias = true,
                   .head_dim = 12});
  cases.push_back({.prologue = "merge", .epilogue = "store", .k = 256, .columns = {64}, .head_dim = 128});
  for (const Target& target : TargetsHere()) {
    for (const MatmulCase& c : cases) {
      const MatmulGraph g = MakeGraph(c);
      const StepShape shape{.rows = 1, .threads = 2};
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, shape,
                                               matmul::DefaultSchedule(g.graph, g.matmul, target, shape));
      const UnitForTest unit(code.source, target);
      CheckRows(c, target, unit, code, 1);
      if (HasFatalFailure()) return;
    }
  }
}

// What the tuner may choose between: all right, and all panels the same to the last bit.
TEST(Matmul, EveryPanelScheduleGivesTheSameBits) {
  const MatmulCase c{.prologue = "rms_norm", .epilogue = "silu_mul", .k = 600, .columns = {100, 100}};
  const MatmulGraph g = MakeGraph(c);
  for (const Target& target : TargetsHere()) {
    std::vector<Schedule> schedules = matmul::Candidates(g.graph, g.matmul, target, {.rows = 128});
    ASSERT_EQ(schedules[0], matmul::DefaultSchedule(g.graph, g.matmul, target, {.rows = 128}));
    std::string first;
    for (const Schedule& schedule : schedules) {
      const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {.rows = 128}, schedule);
      const UnitForTest unit(code.source, target);
      MatmulData d(c, g, 37);
      d.Run(unit, code);
      const std::string bytes(d.out.bytes.data(), d.out.bytes.size());
      if (first.empty()) first = bytes;
      ASSERT_TRUE(bytes == first) << target.name << " " << ToText(schedule);
    }
  }
}

TEST(Matmul, EveryOneRowScheduleAgreesWithTheReference) {
  const MatmulCase c{
      .prologue = "rms_norm", .epilogue = "rotary_append", .k = 200, .columns = {64, 32, 32}, .head_dim = 32};
  const MatmulGraph g = MakeGraph(c);
  const Target target = TargetsHere().front();
  for (const Schedule& schedule : matmul::Candidates(g.graph, g.matmul, target, {.rows = 1})) {
    SCOPED_TRACE(ToText(schedule));
    const RegionCode code = matmul::Generate(g.graph, g.matmul, target, {.rows = 1}, schedule);
    const UnitForTest unit(code.source, target);
    CheckRows(c, target, unit, code, 1);
    if (HasFatalFailure()) return;
  }
}

// The text as people read it; PREHEAT_UPDATE_GOLDENS=1 writes it anew. The prelude is not repeated.
void ExpectGolden(const std::string& name, const std::string& source) {
  const std::string body = source.substr(source.find("typedef bf16 W;"));
  const std::string path = std::string(PREHEAT_TESTDATA) + "/codegen/" + name;
  if (std::getenv("PREHEAT_UPDATE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << body;
  }
  std::ifstream file(path);
  const std::string golden(std::istreambuf_iterator<char>(file), {});
  EXPECT_TRUE(golden == body) << path << " differs; see the difference after PREHEAT_UPDATE_GOLDENS=1";
}

TEST(Matmul, GeneratedTextIsAsReviewed) {
  const Target target = ParseTarget("x86-64-v4+avx512bf16");
  const MatmulGraph qkv = MakeGraph({.prologue = "rms_norm",
                                     .epilogue = "rotary_append",
                                     .k = 3072,
                                     .columns = {3072, 1024, 1024},
                                     .out = DType::kBf16,
                                     .head_dim = 128});
  const StepShape decode{.rows = 1, .threads = 2}, prefill{.rows = 512, .threads = 2};
  ExpectGolden("matmul_qkv_one_row.cc",
               matmul::Generate(qkv.graph, qkv.matmul, target, decode,
                                matmul::DefaultSchedule(qkv.graph, qkv.matmul, target, decode))
                   .source);
  const MatmulGraph gate_up = MakeGraph({.prologue = "rms_norm",
                                         .epilogue = "silu_mul",
                                         .k = 3072,
                                         .columns = {8192, 8192},
                                         .out = DType::kBf16});
  ExpectGolden("matmul_gate_up_panel.cc",
               matmul::Generate(gate_up.graph, gate_up.matmul, target, prefill,
                                matmul::DefaultSchedule(gate_up.graph, gate_up.matmul, target, prefill))
                   .source);
}

// Buckets share machine code: it is compiled once, since equal text has an equal key.
TEST(Matmul, DefaultTextDoesNotDependOnTheBucket) {
  const Target target = ParseTarget("x86-64-v4+avx512bf16");
  const MatmulGraph g = MakeGraph({.epilogue = "add", .k = 3072, .columns = {3072}, .x = DType::kBf16});
  std::string first;
  for (const int64_t rows : {0, 128, 256, 1024}) {
    const StepShape shape{.rows = rows, .threads = 2};
    const std::string source = matmul::Generate(g.graph, g.matmul, target, shape,
                                                matmul::DefaultSchedule(g.graph, g.matmul, target, shape))
                                   .source;
    if (first.empty()) first = source;
    EXPECT_EQ(first, source) << rows;
  }
}

TEST(Matmul, WhatHasNoGeneratorIsNotCompiled) {
  MatmulGraph g = MakeGraph({.k = 64, .columns = {64}});
  const Target target = ParseTarget("x86-64-v3");
  EXPECT_TRUE(matmul::CanCompile(g.graph, g.matmul, target));
  EXPECT_FALSE(matmul::CanCompile(g.graph, g.x, target));
  g.graph[g.matmul].attributes["epilogue"] = std::string("tanh");
  EXPECT_FALSE(matmul::CanCompile(g.graph, g.matmul, target));
}

}  // namespace
}  // namespace preheat::codegen
