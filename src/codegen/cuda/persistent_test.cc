// The words by which blocks of a persistent kernel hand values on. The kernel as a whole:
// tests/persistent_test.cc.
#include "codegen/cuda/persistent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/persistent_body.h"
#include "codegen/cuda/persistent_products.h"
#include "codegen/cuda/prelude.h"

namespace preheat::codegen::cuda::persistent {
namespace {

constexpr char kRoundTrip[] = R"text(
struct Values { const float* from; float* wide; float* narrow; u32* words; };
KERNEL(round_trip, 32, 1, Values) {
  const float x = params.from[Lane()];
  const u32 wide = WordOf((const f32*)0, x, 0xa5), narrow = WordOf((const bf16*)0, x, 0xff);
  params.words[Lane()] = HasTag(wide, 0xa5) && HasTag(narrow, 0xff) && !HasTag(wide, 0xa4) && !HasTag(narrow, 0);
  params.wide[Lane()] = ValueOf(wide);
  params.narrow[Lane()] = ValueOf(narrow);
}
)text";

TEST(FlaggedWords, KeepTheirTagAndTheUpperBitsOfAValue) {
  if (!HostMachineRuns()) GTEST_SKIP() << "[SKIP] ThreadSanitizer does not know our fibers";
  const CudaUnitForTest unit(CudaPrelude(ParseTarget("sm_90a"), tensor::DType::kBf16) + kWords + kRoundTrip);
  std::vector<float> from = {0.0f,
                             -0.0f,
                             1.0f,
                             std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::quiet_NaN(),
                             std::bit_cast<float>(0x7fffffffu),
                             1e-40f,
                             -0x1p100f,
                             std::nextafter(2.0f, 1.0f)};
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  while (from.size() < 32) from.push_back(normal(random));
  std::vector<float> wide(32), narrow(32);
  std::vector<uint32_t> right(32);
  const struct {
    const float* from;
    float *wide, *narrow;
    uint32_t* words;
  } params = {from.data(), wide.data(), narrow.data(), right.data()};
  ASSERT_EQ(unit.Run("round_trip", {.threads = 32, .params = BytesOf(params)}).error, "");
  for (size_t i = 0; i < 32; ++i) {
    SCOPED_TRACE(from[i]);
    EXPECT_EQ(right[i], 1u);
    if (std::isnan(from[i])) {
      EXPECT_TRUE(std::isnan(wide[i]) && std::isnan(narrow[i]));
    } else if (std::isinf(from[i])) {
      EXPECT_EQ(wide[i], from[i]);
      EXPECT_EQ(narrow[i], from[i]);
    } else {
      EXPECT_LE(std::abs(wide[i] - from[i]), std::abs(from[i]) * 0x1p-16f + 1e-42f);
      EXPECT_LE(std::abs(narrow[i] - from[i]), std::abs(from[i]) * 0x1p-8f + 1e-40f);
    }
  }
}

TEST(ProductsByLength, LinksOfOneLengthShareATextAndEqualStagesACase) {
  ProductsByLength products;
  products.Add(1, 512, "normed\n");
  products.Add(3, 512, "plain\n");
  products.Add(4, 512, "normed\n");
  products.Add(5, 1024, "plain of 1024\n");
  EXPECT_EQ(products.Cases(),
            "      case 1: case 3: case 4: sums512::Consume(kind, &args, &consumer); break;\n"
            "      case 5: sums1024::Consume(kind, &args, &consumer); break;\n");
  const std::string text = products.Text();
  EXPECT_THAT(text, ::testing::StartsWith("namespace x0 {\nnormed\n}  // namespace x0\n"
                                          "namespace x1 {\nplain\n}  // namespace x1\n"
                                          "namespace x2 {\nplain of 1024\n}  // namespace x2\n"
                                          "namespace sums512 {\nconstexpr int kK = 512;\n"));
  EXPECT_THAT(text, ::testing::HasSubstr("    case 1: case 4: return x0::StageX(args, ask); break;\n"
                                         "    default: return x1::StageX(args, ask); break;\n"));
  EXPECT_THAT(text, ::testing::HasSubstr("    case 1: return link1::kTiles; break;\n"
                                         "    case 3: return link3::kTiles; break;\n"
                                         "    default: return link4::kTiles; break;\n"));
  EXPECT_THAT(text,
              ::testing::HasSubstr("  switch (kind) {\n    default: return link5::kTiles; break;\n  }\n"));
}

}  // namespace
}  // namespace preheat::codegen::cuda::persistent
