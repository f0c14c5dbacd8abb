// The module's kernels against plain loops, over awkward shapes and all types.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "base/error.h"
#include "eager/kernel_table.h"
#include "eager/module.h"
#include "ir/sample_reference.h"
#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace preheat::eager {
namespace {

using tensor::DType;

#ifdef PREHEAT_EAGER_WITHOUT_MODULE
TEST(Eager, WithoutOneDnnItSaysWhatToInstall) {
  try {
    Module::Open();
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), testing::HasSubstr("libdnnl"));
  }
}
#else

const Module& TheModule() {
  static const Module module = [] {
    // Threads that wait must not spin while other tests run: small operations would take a time slice each.
    ::setenv("OMP_WAIT_POLICY", "passive", 0);
    return Module::Open();
  }();
  return module;
}

// A matrix in memory of any float type, with space between its rows.
struct Data {
  DType dtype;
  int64_t rows, columns, stride;
  std::vector<std::byte> bytes;
  bool step_rows = true;  // its rows are the step's

  Data(DType type, int64_t rows_, int64_t columns_, int64_t gap = 0)
      : dtype(type), rows(rows_), columns(columns_), stride(columns_ + gap) {
    bytes.resize(static_cast<size_t>(rows * stride) * tensor::Bytes(dtype), std::byte{0xff});
  }

  void Set(const std::vector<float>& values) {
    for (int64_t row = 0; row < rows; ++row) {
      const auto size = static_cast<size_t>(columns) * tensor::Bytes(dtype);
      tensor::StoreFloats({values.data() + row * columns, static_cast<size_t>(columns)}, dtype,
                          {bytes.data() + static_cast<size_t>(row * stride) * tensor::Bytes(dtype), size});
    }
  }
  std::vector<float> Get() const {
    std::vector<float> values;
    for (int64_t row = 0; row < rows; ++row) {
      const auto at = static_cast<size_t>(row * stride) * tensor::Bytes(dtype);
      const auto size = static_cast<size_t>(columns) * tensor::Bytes(dtype);
      const tensor::TensorView view(dtype, {columns}, std::span(bytes).subspan(at, size));
      for (int64_t i = 0; i < columns; ++i) values.push_back(view.At(i));
    }
    return values;
  }
};

Data Random(DType dtype, int64_t rows, int64_t columns, uint32_t seed, int64_t gap = 0, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (float& value : values) value = normal(random);
  Data data(dtype, rows, columns, gap);
  data.Set(values);
  return data;
}

Data Weight(Data data) {
  data.step_rows = false;
  return data;
}

struct Step {
  int64_t rows = 1, past = 0, capacity = 0;
};

void Launch(const std::string& name, std::vector<Data*> operands, std::vector<int64_t> numbers, Step step) {
  std::vector<void*> pointers;
  std::vector<int64_t> constants;
  for (Data* data : operands) {
    pointers.push_back(data->bytes.data());
    for (const int64_t number : {static_cast<int64_t>(data->dtype), data->step_rows ? int64_t{0} : data->rows,
                                 data->columns, data->stride}) {
      constants.push_back(number);
    }
  }
  constants.insert(constants.end(), numbers.begin(), numbers.end());
  const ph_args args = {.operands = pointers.data(),
                        .constants = constants.data(),
                        .rows = step.rows,
                        .past = step.past,
                        .capacity = step.capacity};
  TheModule().Kernel(name)(&args, 0, 1, nullptr);
  TheModule().ThrowIfFailed();
}

int64_t Bits(float value) {
  return std::bit_cast<uint32_t>(value);
}

// Half a unit in the last place of the stored type, relative, and of f32 sums over `depth` products.
double Tolerance(DType out, DType math, int64_t depth) {
  const auto unit = [](DType dtype) {
    return dtype == DType::kBf16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-23;
  };
  return unit(out) + unit(DType::kF32) * static_cast<double>(depth + 8) +
         (math == DType::kBf16 ? 0x1p-20 : 0);
}

void ExpectNear(const std::vector<float>& actual, const std::vector<double>& expected,
                const std::vector<double>& magnitude, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    // 2^-25: half of the smallest f16.
    ASSERT_NEAR(actual[i], expected[i], tolerance * magnitude[i] + 0x1p-25) << what << " element " << i;
  }
}

std::vector<double> Magnitude(const std::vector<double>& values) {
  std::vector<double> magnitude;
  for (const double value : values) magnitude.push_back(std::abs(value));
  return magnitude;
}

struct Types {
  DType x, weight, out;
};

TEST(EagerKernels, LinearMatchesPlainSums) {
  const int64_t shapes[][3] = {{1, 33, 7}, {5, 33, 7},    {1, 64, 320}, {17, 130, 65},
                               {3, 1, 1},  {40, 257, 96}, {2, 96, 1000}};
  const Types types[] = {
      {DType::kBf16, DType::kBf16, DType::kBf16}, {DType::kBf16, DType::kBf16, DType::kF32},
      {DType::kF32, DType::kF32, DType::kF32},    {DType::kF32, DType::kF16, DType::kF32},
      {DType::kF32, DType::kBf16, DType::kBf16},  {DType::kF16, DType::kF16, DType::kF16}};
  for (const auto& [rows, in, out] : shapes) {
    for (const Types& t : types) {
      for (const bool has_bias : {false, true}) {
        Data x = Random(t.x, rows, in, 1, 3);
        Data weight = Weight(Random(t.weight, out, in, 2));
        Data bias = Weight(Random(t.weight, 1, out, 3));
        Data y(t.out, rows, out, 5);
        std::vector<Data*> operands = {&y, &x, &weight};
        if (has_bias) operands.push_back(&bias);
        Launch(has_bias ? "linear_bias" : "linear", operands, {}, {.rows = rows});
        TheModule().ReleaseWeights();  // the next weights may lie where these did

        const auto xs = x.Get(), ws = weight.Get(), bs = bias.Get();
        std::vector<double> expected, magnitude;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t o = 0; o < out; ++o) {
            double sum = has_bias ? bs[static_cast<size_t>(o)] : 0;
            double size = std::abs(sum);
            for (int64_t i = 0; i < in; ++i) {
              const double term =
                  double{xs[static_cast<size_t>(r * in + i)]} * ws[static_cast<size_t>(o * in + i)];
              sum += term;
              size += std::abs(term);
            }
            expected.push_back(sum);
            magnitude.push_back(size);
          }
        }
        ExpectNear(y.Get(), expected, magnitude, Tolerance(t.out, t.x, in),
                   fmt::format("rows {} in {} out {} types {} {} {} bias {}", rows, in, out, ShortName(t.x),
                               ShortName(t.weight), ShortName(t.out), has_bias));
      }
    }
  }
}

TEST(EagerKernels, PackedWeightsAreKeptUntilReleased) {
  TheModule().ReleaseWeights();
  EXPECT_EQ(TheModule().PackedBytes(), 0);
  Data x = Random(DType::kF32, 1, 64, 1), weight = Weight(Random(DType::kF32, 64, 64, 2)),
       y(DType::kF32, 1, 64);
  Launch("linear", {&y, &x, &weight}, {}, {});
  const int64_t packed = TheModule().PackedBytes();
  EXPECT_GE(packed, 64 * 64 * 4);
  const auto first = y.Get();
  Launch("linear", {&y, &x, &weight}, {}, {});
  EXPECT_EQ(TheModule().PackedBytes(), packed);
  EXPECT_EQ(y.Get(), first);
  TheModule().ReleaseWeights();
  EXPECT_EQ(TheModule().PackedBytes(), 0);
}

TEST(EagerKernels, RmsNormMatchesPlainSums) {
  for (const int64_t width : {1, 7, 33, 1024, 1100, 3072}) {
    for (const DType out : {DType::kF32, DType::kBf16}) {
      const int64_t rows = 13;
      Data x = Random(DType::kF32, rows, width, 1, 2), weight = Weight(Random(DType::kBf16, 1, width, 2));
      Data y(out, rows, width);
      Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = rows});
      const auto xs = x.Get(), ws = weight.Get();
      std::vector<double> expected;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < width; ++i)
          squares += std::pow(double{xs[static_cast<size_t>(r * width + i)]}, 2);
        for (int64_t i = 0; i < width; ++i) {
          expected.push_back(xs[static_cast<size_t>(r * width + i)] /
                             std::sqrt(squares / static_cast<double>(width) + 1e-5) *
                             ws[static_cast<size_t>(i)]);
        }
      }
      ExpectNear(y.Get(), expected, Magnitude(expected), Tolerance(out, DType::kF32, 64),
                 fmt::format("{}", width));
    }
  }
}

TEST(EagerKernels, ElementwiseMatchesPlainArithmetic) {
  for (const int64_t width : {1, 33, 1030}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
      const int64_t rows = 35;
      Data a = Random(dtype, rows, width, 1, 1, 4), b = Random(DType::kF32, rows, width, 2),
           y(dtype, rows, width, 3);
      const auto as = a.Get(), bs = b.Get();
      std::vector<double> sums, products, silus, size;
      for (size_t i = 0; i < as.size(); ++i) {
        sums.push_back(double{as[i]} + bs[i]);
        products.push_back(double{as[i]} * bs[i]);
        silus.push_back(as[i] / (1 + std::exp(-double{as[i]})));
        size.push_back(std::abs(as[i]) + std::abs(bs[i]));
      }
      const double tolerance = Tolerance(dtype, DType::kF32, 0);
      Launch("add", {&y, &a, &b}, {}, {.rows = rows});
      ExpectNear(y.Get(), sums, size, tolerance, "add");
      Launch("mul", {&y, &a, &b}, {}, {.rows = rows});
      ExpectNear(y.Get(), products, Magnitude(products), tolerance, "mul");
      Launch("silu", {&y, &a}, {}, {.rows = rows});
      ExpectNear(y.Get(), silus, Magnitude(silus), tolerance, "silu");
      Launch("copy", {&y, &a}, {}, {.rows = rows});
      EXPECT_EQ(y.Get(), as);
      Data last(dtype, 1, width);
      last.step_rows = false;
      Launch("last_row", {&last, &a}, {}, {.rows = rows});
      EXPECT_EQ(last.Get(), std::vector<float>(as.end() - width, as.end()));
      Launch("add", {&a, &a, &b}, {}, {.rows = rows});  // in place
      ExpectNear(a.Get(), sums, size, tolerance, "add in place");
    }
  }
}

TEST(EagerKernels, SiluOfExtremesIsFiniteOrPropagates) {
  const std::vector<float> values = {-1e30f, -200, -90, 0, 90, 200, 1e30f, NAN};
  Data x(DType::kF32, 1, 8), y(DType::kF32, 1, 8);
  x.Set(values);
  Launch("silu", {&y, &x}, {}, {});
  const auto ys = y.Get();
  for (size_t i : {1, 2}) EXPECT_NEAR(ys[i], 0, 1e-30);
  EXPECT_EQ(ys[3], 0);
  for (size_t i : {4, 5, 6}) EXPECT_EQ(ys[i], values[i]);
  EXPECT_TRUE(std::isnan(ys[7]));
}

struct Heads {
  int64_t heads, kv_heads, head_dim, rows, past;
};

class EagerAttention : public testing::TestWithParam<Heads> {};

TEST_P(EagerAttention, MatchesPlainSoftmaxAndReadsNothingUnwritten) {
  const auto [heads, kv_heads, head_dim, rows, past] = GetParam();
  const int64_t capacity = past + rows + 5;
  const int64_t positions = past + rows;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Data q = Random(dtype, rows, heads * head_dim, 1, 2), y(dtype, rows, heads * head_dim);
    // [kv_heads, capacity, head_dim]; what was not appended is NaN.
    Data keys(dtype, kv_heads * capacity, head_dim), values(dtype, kv_heads * capacity, head_dim);
    std::vector<Data> appended;
    for (uint32_t i = 0; i < 2; ++i)
      appended.push_back(Random(dtype, positions, kv_heads * head_dim, 10 + i));
    const auto append = [&](int64_t first, int64_t count) {
      Data k(dtype, count, kv_heads * head_dim), v(dtype, count, kv_heads * head_dim);
      const auto row_bytes = static_cast<size_t>(kv_heads * head_dim) * tensor::Bytes(dtype);
      std::copy_n(appended[0].bytes.begin() + first * static_cast<int64_t>(row_bytes), k.bytes.size(),
                  k.bytes.begin());
      std::copy_n(appended[1].bytes.begin() + first * static_cast<int64_t>(row_bytes), v.bytes.size(),
                  v.bytes.begin());
      Launch("append", {&keys, &values, &k, &v}, {kv_heads, head_dim},
             {.rows = count, .past = first, .capacity = capacity});
    };
    if (past > 0) append(0, past);
    append(past, rows);
    const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
    Launch("attention", {&y, &q, &keys, &values}, {heads, kv_heads, head_dim, Bits(scale)},
           {.rows = rows, .past = past, .capacity = capacity});

    const auto qs = q.Get(), ks = appended[0].Get(), vs = appended[1].Get();
    const auto at = [](const std::vector<float>& data, int64_t i) {
      return double{data[static_cast<size_t>(i)]};
    };
    std::vector<double> expected, magnitude;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t kv = h / (heads / kv_heads);
        std::vector<double> weights;
        double total = 0;
        for (int64_t p = 0; p <= past + r; ++p) {
          double score = 0;
          for (int64_t d = 0; d < head_dim; ++d) {
            score += at(qs, (r * heads + h) * head_dim + d) * at(ks, (p * kv_heads + kv) * head_dim + d);
          }
          weights.push_back(std::exp(score * scale));
          total += weights.back();
        }
        for (int64_t d = 0; d < head_dim; ++d) {
          double sum = 0, size = 0;
          for (size_t p = 0; p < weights.size(); ++p) {
            const double v = at(vs, (static_cast<int64_t>(p) * kv_heads + kv) * head_dim + d);
            sum += weights[p] / total * v;
            size += weights[p] / total * std::abs(v);
          }
          expected.push_back(sum);
          magnitude.push_back(size);
        }
      }
    }
    ExpectNear(y.Get(), expected, magnitude, Tolerance(dtype, DType::kF32, positions), "attention");
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, EagerAttention,
                         testing::Values(Heads{1, 1, 2, 1, 0}, Heads{4, 4, 64, 5, 0}, Heads{6, 2, 64, 1, 130},
                                         Heads{24, 8, 128, 1, 64}, Heads{3, 1, 80, 129, 0},
                                         Heads{4, 1, 34, 70, 63}, Heads{8, 2, 128, 64, 1},
                                         Heads{16, 1, 8, 9, 200}));

TEST(EagerKernels, RotaryTurnsPairs) {
  const int64_t rows = 3, heads = 2, head_dim = 6, past = 4;
  Data x = Random(DType::kF32, rows, heads * head_dim, 1), y(DType::kF32, rows, heads * head_dim);
  Data table = Weight(Random(DType::kF32, 16, head_dim, 2));
  Launch("rotary", {&y, &x, &table}, {head_dim}, {.rows = rows, .past = past});
  const auto xs = x.Get(), ys = y.Get(), ts = table.Get();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t d = 0; d < 3; ++d) {
        const auto i = static_cast<size_t>((r * heads + h) * head_dim + d);
        const auto t = static_cast<size_t>((past + r) * head_dim + d);
        EXPECT_NEAR(ys[i], xs[i] * ts[t] - xs[i + 3] * ts[t + 3], 1e-5);
        EXPECT_NEAR(ys[i + 3], xs[i + 3] * ts[t] + xs[i] * ts[t + 3], 1e-5);
      }
    }
  }
}

TEST(EagerKernels, EmbeddingTakesTheRowsOfTheIds) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    Data table = Weight(Random(dtype, 11, 1025, 1)), y(DType::kF32, 3, 1025), ids(DType::kI32, 3, 1);
    const int32_t wanted[] = {10, 0, 10};
    std::memcpy(ids.bytes.data(), wanted, sizeof wanted);
    Launch("embedding", {&y, &ids, &table}, {}, {.rows = 3});
    const auto ys = y.Get(), ts = table.Get();
    for (int64_t r = 0; r < 3; ++r) {
      for (int64_t i = 0; i < 1025; ++i) {
        ASSERT_EQ(ys[static_cast<size_t>(r * 1025 + i)], ts[static_cast<size_t>(wanted[r] * 1025 + i)]);
      }
    }
  }
}

TEST(EagerKernels, SampleChoosesAsTheReferenceDoes) {
  const int64_t vocab = 333;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    Data logits = Random(DType::kF32, 1, vocab, seed, 0, 3);
    if (seed % 5 == 0) {  // many equals
      auto values = logits.Get();
      for (float& value : values) value = std::round(value);
      values[7] = NAN;
      logits.Set(values);
    }
    ph_state state = {};
    state.seed = seed * uint64_t{0x9E3779B97F4A7C15};
    state.steps = static_cast<int32_t>(seed);
    state.temperature = seed % 4 == 0 ? 0 : 0.25f * static_cast<float>(seed % 7 + 1);
    state.top_p = seed % 3 == 0 ? 1 : 0.3f + 0.1f * static_cast<float>(seed % 6);
    state.top_k = seed % 2 == 0 ? 0 : static_cast<int32_t>(seed % 60);
    state.banned_count = static_cast<int32_t>(seed % 4);
    for (int i = 0; i < 4; ++i)
      state.banned[i] = (i == 3) ? 100000 : static_cast<int32_t>(seed + 50 * static_cast<uint32_t>(i));
    const int32_t expected = ir::SampleToken(logits.Get(), state);
    Data block(DType::kU8, 1, sizeof state);
    std::memcpy(block.bytes.data(), &state, sizeof state);
    Launch("sample", {&block, &logits}, {}, {});
    ph_state after;
    std::memcpy(&after, block.bytes.data(), sizeof after);
    EXPECT_EQ(after.token, expected);
    EXPECT_EQ(after.steps, state.steps + 1);
  }
}

TEST(EagerKernels, ProbeShowsRowsAndPassesThemOn) {
  Data x = Random(DType::kBf16, 3, 5, 1, 2), y(DType::kF32, 3, 5);
  std::vector<float> seen;
  TheModule().SetProbe([&](const float* values, int64_t rows, int64_t columns) {
    seen.assign(values, values + rows * columns);
  });
  Launch("probe", {&y, &x}, {}, {.rows = 3});
  TheModule().SetProbe(nullptr);
  EXPECT_EQ(seen, x.Get());
  EXPECT_EQ(y.Get(), x.Get());
}

TEST(EagerKernels, AFailureIsThrownOnceAndStopsTheStep) {
  Data x = Random(DType::kF32, 1, 4, 1), y(DType::kF32, 1, 4);
  TheModule().SetProbe(
      [](const float*, int64_t, int64_t) { throw std::runtime_error("no room to show it"); });
  try {
    Launch("probe", {&y, &x}, {}, {});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kToolFailed);
    EXPECT_THAT(error.message(), testing::HasSubstr("no room to show it"));
  }
  TheModule().SetProbe(nullptr);
  EXPECT_NO_THROW(TheModule().ThrowIfFailed());
}

TEST(EagerKernels, OneThreadGivesTheSameBits) {
  Data x = Random(DType::kF32, 64, 1500, 1), weight = Weight(Random(DType::kF32, 1, 1500, 2)),
       y(DType::kF32, 64, 1500);
  Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = 64});
  const auto all = y.Get();
  TheModule().SetThreads(1);
  Launch("rms_norm", {&y, &x, &weight}, {Bits(1e-5f)}, {.rows = 64});
  TheModule().SetThreads(2);
  EXPECT_EQ(y.Get(), all);
}

TEST(Module, NamesItsLibrary) {
  EXPECT_THAT(TheModule().Identity(), testing::StartsWith("oneDNN "));
}

TEST(Module, UnknownKernelsAndLibrariesAreUnsupported) {
  for (const auto& [library, entry] :
       {std::pair{"library:eager", "matmul"}, std::pair{"library:cublas", "linear"}}) {
    try {
      TheModule().Resolve(library, entry);
      FAIL();
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
      EXPECT_THAT(error.message(), testing::HasSubstr(entry));
    }
  }
  EXPECT_NE(TheModule().Resolve("eager", "linear"), nullptr);
}
#endif

TEST(Module, MissingModuleSaysWhatToInstall) {
  try {
    Module::OpenFrom({"/nonexistent/libpreheat_eager.so"});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), testing::HasSubstr("/nonexistent/libpreheat_eager.so"));
    EXPECT_THAT(error.message(), testing::HasSubstr("install libdnnl2"));
  }
}

TEST(Module, AnotherLibraryIsIncompatible) {
  try {
    Module::OpenFrom({"libm.so.6"});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kIncompatible);
  }
}

}  // namespace
}  // namespace preheat::eager
