// The vocabulary means the same on every target: each word is run in a small unit of its own.
#include "codegen/cpu_prelude.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "codegen/cache_layout.h"
#include "codegen/unit_for_test.h"
#include "tensor/bf16.h"
#include "tensor/f16.h"

namespace preheat::codegen {
namespace {

using tensor::DType;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Operands 0 and 1 are input and output; `rows` is a count.
constexpr char kWords[] = R"text(
#define EACH_VECTOR for (i64 i = 0; i < args->rows; i += LANES)
ENTRY void exp_of(const ph_args* args, i64, i64, void*) {
  EACH_VECTOR Store(Operand<f32>(args, 1) + i, Exp(Load(Operand<f32>(args, 0) + i)));
}
ENTRY void silu_of(const ph_args* args, i64, i64, void*) {
  EACH_VECTOR Store(Operand<f32>(args, 1) + i, Silu(Load(Operand<f32>(args, 0) + i)));
}
ENTRY void to_bf16(const ph_args* args, i64, i64, void*) {
  EACH_VECTOR Store(Operand<bf16>(args, 1) + i, Load(Operand<f32>(args, 0) + i));
}
ENTRY void to_f16(const ph_args* args, i64, i64, void*) {
  EACH_VECTOR Store(Operand<f16>(args, 1) + i, Load(Operand<f32>(args, 0) + i));
}
ENTRY void from_f16(const ph_args* args, i64, i64, void*) {
  EACH_VECTOR Store(Operand<f32>(args, 1) + i, Load(Operand<f16>(args, 0) + i));
}
ENTRY void transpose(const ph_args* args, i64, i64, void*) {
  VU rows[LANES];
  UNROLL for (int i = 0; i < LANES; ++i) rows[i] = LoadUnits(Operand<const unit>(args, 0) + i * LANES);
  Transpose(rows);
  UNROLL for (int i = 0; i < LANES; ++i) StoreUnits(Operand<unit>(args, 1) + i * LANES, rows[i]);
}
// Output: SumEach<4>, then Sum, MaxLane, Rsqrt of the first vector's first lane.
ENTRY void across(const ph_args* args, i64, i64, void*) {
  const f32* from = Operand<f32>(args, 0);
  f32* to = Operand<f32>(args, 1);
  VF v[4];
  UNROLL for (int i = 0; i < 4; ++i) v[i] = Load(from + i * LANES);
  Put(to + LANES, Sum(v[0]));
  Put(to + LANES + 1, MaxLane(v[0]));
  Put(to + LANES + 2, Rsqrt(v[0][0]));
  Store(to, SumEach<4>(v));
}
ENTRY void bf16_tail(const ph_args* args, i64, i64, void*) {
  const int n = (int)args->rows;
  StoreTail(Operand<bf16>(args, 1), LoadTail(Operand<bf16>(args, 0), n), n);
}
ENTRY void f32_tail(const ph_args* args, i64, i64, void*) {
  const int n = (int)args->rows;
  StoreTail(Operand<f32>(args, 1), LoadTail(Operand<f32>(args, 0), n), n);
}
// sum of a[i] b[i] over rows bf16 elements: whole vectors of units, then a tail.
ENTRY void dot(const ph_args* args, i64, i64, void*) {
  constexpr int kVector = LANES * KPU;
  const bf16* b = Operand<bf16>(args, 0);
  alignas(64) Element a[512];
  VF acc = {};
  for (i64 k = 0; k < 512; k += LANES) StoreElements(a + k, Load(b + k));
  i64 k = 0;
  for (; k + kVector <= args->rows; k += kVector) acc = Dot(acc, LoadUnits(a + k), LoadUnits(b + k));
  if (k < args->rows) acc = Dot(acc, LoadUnits(a + k), LoadUnitsTail(b + k, (int)(args->rows - k)));
  Put(Operand<f32>(args, 1), Sum(acc));
}
)text";

struct Words {
  Target target;
  UnitForTest unit;

  explicit Words(const Target& t, Unit u = Unit::kF32) : target(t), unit(CpuPrelude(t, u) + kWords, t) {}
  int lanes() const { return target.vector_bytes / 4; }
  void Run(const char* entry, const void* from, void* to, int64_t count) const {
    void* operands[] = {const_cast<void*>(from), to};
    const ph_args args = {
        .operands = operands, .constants = nullptr, .rows = count, .past = 0, .capacity = 0};
    unit.Entry(entry)(&args, 0, 1, nullptr);
  }
};

std::vector<float> Floats() {
  std::vector<float> values = {0.0f, -0.0f,    1.0f,     -1.0f, kInfinity, -kInfinity,
                               kNan, 65519.0f, 65520.0f, 3e38f, 1e-3f};
  for (int i = 0; i < 4000; ++i) values.push_back((static_cast<float>(i) - 2000.0f) * 0.04567f);
  // Halves between two bf16: ties.
  for (uint32_t i = 0; i < 64; ++i) values.push_back(std::bit_cast<float>(0x3f808000u + (i << 16)));
  while (values.size() % 16 != 0) values.push_back(0.5f);
  return values;
}

TEST(CpuPrelude, ExpIsWithinThreeUlps) {
  const std::vector<float> x = Floats();
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    std::vector<float> y(x.size());
    words.Run("exp_of", x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = std::exp(static_cast<double>(x[i]));
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(y[i]));
      } else if (expected > 3.4028e38) {
        EXPECT_EQ(y[i], kInfinity) << x[i];
      } else if (expected < 1.18e-38) {
        EXPECT_EQ(y[i], 0.0f) << x[i];
      } else {
        EXPECT_NEAR(y[i] / expected, 1, 3 * 0x1p-23) << x[i];
      }
    }
  }
}

TEST(CpuPrelude, SiluIsExactToAFewUlps) {
  std::vector<float> x;
  for (int i = 0; i < 1600; ++i) x.push_back((static_cast<float>(i) - 800.0f) * 0.1f);
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    std::vector<float> y(x.size());
    words.Run("silu_of", x.data(), y.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = x[i] / (1 + std::exp(-static_cast<double>(x[i])));
      EXPECT_NEAR(y[i], expected, 5 * 0x1p-23 * std::abs(expected) + 1e-37) << x[i];
    }
  }
}

TEST(CpuPrelude, StoringRoundsToNearestEvenAsTensorDoes) {
  const std::vector<float> x = Floats();
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    std::vector<uint16_t> bf16(x.size()), f16(x.size());
    words.Run("to_bf16", x.data(), bf16.data(), static_cast<int64_t>(x.size()));
    words.Run("to_f16", x.data(), f16.data(), static_cast<int64_t>(x.size()));
    std::vector<float> back(x.size());
    words.Run("from_f16", f16.data(), back.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(bf16[i], tensor::FloatToBf16(x[i])) << x[i] << " on " << target.name;
      EXPECT_EQ(f16[i], tensor::FloatToF16(x[i])) << x[i] << " on " << target.name;
      EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(tensor::F16ToFloat(f16[i])));
    }
  }
}

TEST(CpuPrelude, TransposeSwapsRowsAndLanes) {
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    const int n = words.lanes();
    std::vector<int32_t> from(static_cast<size_t>(n * n)), to(from.size());
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<int32_t>(i);
    words.Run("transpose", from.data(), to.data(), 0);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) ASSERT_EQ(to[static_cast<size_t>(i * n + j)], j * n + i) << target.name;
    }
  }
}

TEST(CpuPrelude, AcrossLanes) {
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    const auto n = static_cast<size_t>(words.lanes());
    std::vector<float> from(4 * n), to(2 * n);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>((i * 7 + 4) % 13);
    words.Run("across", from.data(), to.data(), 0);
    std::vector<float> sums(4);
    for (size_t i = 0; i < from.size(); ++i) sums[i / n] += from[i];
    for (size_t j = 0; j < n; ++j) EXPECT_EQ(to[j], sums[j % 4]);
    EXPECT_EQ(to[n], sums[0]);
    EXPECT_EQ(to[n + 1], *std::max_element(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(n)));
    EXPECT_EQ(to[n + 2], 0.5f);  // 1 / sqrt(4), exactly
  }
}

TEST(CpuPrelude, TailsTouchNothingElse) {
  for (const Target& target : TargetsHere()) {
    const Words words(target);
    for (int n = 0; n < words.lanes(); ++n) {
      std::vector<uint16_t> half_from(32, 0x3f80), half_to(32, 0x7777);
      std::vector<float> from(32, 2.5f), to(32, -1.0f);
      words.Run("bf16_tail", half_from.data(), half_to.data(), n);
      words.Run("f32_tail", from.data(), to.data(), n);
      for (int i = 0; i < 32; ++i) {
        EXPECT_EQ(half_to[static_cast<size_t>(i)], i < n ? 0x3f80 : 0x7777) << target.name << " " << n;
        EXPECT_EQ(to[static_cast<size_t>(i)], i < n ? 2.5f : -1.0f) << target.name << " " << n;
      }
    }
  }
}

TEST(CpuPrelude, DotIsTheSameSumInEveryUnit) {
  // Multiples of 1/8 below 2: all products and sums are exact, whatever the order.
  std::vector<uint16_t> b;
  for (int i = 0; i < 512; ++i) b.push_back(tensor::FloatToBf16(static_cast<float>(i * 5 % 16) * 0.125f));
  for (const Target& target : TargetsHere()) {
    for (const Unit unit : {Unit::kF32, Unit::kBf16InF32, Unit::kBf16Pair}) {
      if (unit == Unit::kBf16Pair && !target.bf16_dot) continue;
      const Words words(target, unit);
      for (const int64_t count : {0, 1, 2, 15, 16, 31, 32, 33, 100, 511, 512}) {
        float expected = 0, sum = -1;
        for (int64_t i = 0; i < count; ++i) {
          const float v = tensor::Bf16ToFloat(b[static_cast<size_t>(i)]);
          expected += v * v;
        }
        words.Run("dot", b.data(), &sum, count);
        EXPECT_EQ(sum, expected) << target.name << " " << count;
      }
    }
  }
}

TEST(CpuPrelude, PairsNeedBf16WeightsBf16MathAndTheInstruction) {
  const Target dot = ParseTarget("x86-64-v4+avx512bf16"), plain = ParseTarget("x86-64-v4");
  EXPECT_EQ(UnitFor(DType::kBf16, DType::kBf16, dot), Unit::kBf16Pair);
  EXPECT_EQ(UnitFor(DType::kF16, DType::kBf16, dot), Unit::kBf16InF32);
  EXPECT_EQ(UnitFor(DType::kBf16, DType::kF32, dot), Unit::kF32);
  EXPECT_EQ(UnitFor(DType::kBf16, DType::kBf16, plain), Unit::kBf16InF32);
}

// The declarations in the text are those of the header: a unit tells where it finds each member.
TEST(CpuPrelude, ArgumentsAndStateLieAsInTheHeader) {
  static_assert(sizeof(ph_args) == 48 && sizeof(ph_state) == 184);
  const std::string text = CpuPrelude(TargetsHere().front(), Unit::kF32) + R"text(
ENTRY void tell(const ph_args* args, i64, i64, void*) {
  i64* to = Operand<i64>(args, 0);
  to[0] = sizeof(ph_args);
  to[1] = sizeof(ph_state);
  to[2] = args->rows;
  to[3] = args->past;
  to[4] = args->capacity;
  to[5] = args->constants[0];
  to[6] = Operand<ph_state>(args, 1)->seed;
  to[7] = Operand<ph_state>(args, 1)->top_k;
  to[8] = Operand<ph_state>(args, 1)->banned[15];
  to[9] = Operand<ph_state>(args, 1)->end[15];
}
)text";
  const UnitForTest unit(text, TargetsHere().front());
  ph_state state{};
  state.seed = 5;
  state.top_k = 6;
  state.banned[15] = 7;
  state.end[15] = 8;
  std::vector<int64_t> told(10);
  void* operands[] = {told.data(), &state};
  const int64_t constants[] = {4};
  const ph_args args = {.operands = operands, .constants = constants, .rows = 1, .past = 2, .capacity = 3};
  unit.Entry("tell")(&args, 0, 1, nullptr);
  EXPECT_EQ(told, (std::vector<int64_t>{sizeof(ph_args), sizeof(ph_state), 1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(Target, NamesAreParsedAndOthersNamed) {
  for (const std::string& name : TargetNames()) EXPECT_EQ(ParseTarget(name).name, name);
  try {
    ParseTarget("x86-64-v5");
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kInvalidArgument);
    EXPECT_TRUE(error.message().starts_with(
        "unknown target \"x86-64-v5\": the targets are x86-64-v4+avx512bf16, x86-64-v4, x86-64-v3, sm_80"));
  }
}

TEST(Target, VirtualArchitecturesAreCardsWithoutTheFeaturesOfOne) {
  for (const int capability : {80, 90, 100, 120}) {
    const Target target = ParseTarget("compute_" + std::to_string(capability));
    EXPECT_TRUE(target.ptx && target.IsCuda() && target.bf16_dot);
    EXPECT_EQ(target.sm, capability);
  }
  EXPECT_FALSE(ParseTarget("sm_90a").ptx);
  EXPECT_THROW(ParseTarget("compute_90a"), base::Error);
  EXPECT_THROW(ParseTarget("compute_86"), base::Error);
}

ir::Type CacheType(DType dtype, int64_t kv_heads, int64_t head_dim) {
  return {dtype, {ir::Dim::Of(2), ir::Dim::Past(), ir::Dim::Of(kv_heads), ir::Dim::Of(head_dim)}};
}

TEST(CacheLayout, NamesAndSizesDependOnTypeAndTarget) {
  const program::KvLayout pairs =
      CacheLayout(CacheType(DType::kBf16, 8, 128), ParseTarget("x86-64-v4+avx512bf16"));
  EXPECT_EQ(pairs.name, "bf16-pairs16");
  EXPECT_EQ(pairs.position_block, 16);
  EXPECT_EQ(pairs.key_bytes.Bytes(1, 4096), 4096 * 8 * 128 * 2);
  EXPECT_EQ(CacheLayout(CacheType(DType::kBf16, 8, 128), ParseTarget("x86-64-v3")).name, "bf16-lanes8");
  EXPECT_EQ(CacheLayout(CacheType(DType::kF32, 8, 128), ParseTarget("x86-64-v4")).name, "f32-lanes16");
}

TEST(CacheLayout, EveryElementHasAPlaceOfItsOwn) {
  constexpr int64_t kHeads = 3, kDim = 12, kCapacity = 32;
  for (const Target& target : TargetsHere()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const std::string text = CpuPrelude(target, Unit::kF32) +
                               CachePrelude(CacheShapeOf(CacheType(dtype, kHeads, kDim), target)) + R"text(
ENTRY void place(const ph_args* args, i64, i64, void*) {
  i64* keys = Operand<i64>(args, 0);
  i64* values = Operand<i64>(args, 1);
  for (i64 head = 0; head < kKvHeads; ++head) {
    for (i64 position = 0; position < args->capacity; ++position) {
      for (i64 d = 0; d < kHeadDim; ++d) {
        ++keys[KeyOffset(args->capacity, head, position, d)];
        ++values[ValueOffset(args->capacity, head, position, d)];
      }
    }
  }
}
)text";
      const UnitForTest unit(text, target);
      const std::vector<int64_t> ones(static_cast<size_t>(kHeads * kDim * kCapacity), 1);
      std::vector<int64_t> keys(ones.size()), values(ones.size());
      void* operands[] = {keys.data(), values.data()};
      const ph_args args = {
          .operands = operands, .constants = nullptr, .rows = 1, .past = 0, .capacity = kCapacity};
      unit.Entry("place")(&args, 0, 1, nullptr);
      EXPECT_EQ(keys, ones) << target.name;
      EXPECT_EQ(values, ones) << target.name;
    }
  }
}

}  // namespace
}  // namespace preheat::codegen
