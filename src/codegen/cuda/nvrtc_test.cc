// The real texts compile for cards, where NVRTC is found.
#include <gtest/gtest.h>

#include <string>

#include "codegen/attention_for_test.h"
#include "codegen/cuda/attention.h"
#include "codegen/cuda/host_kernels_for_test.h"
#include "codegen/cuda/host_ring_for_test.h"
#include "codegen/cuda/matmul.h"
#include "codegen/cuda/nvrtc_for_test.h"
#include "codegen/matmul_for_test.h"

namespace preheat::codegen::cuda {
namespace {

TEST(Nvrtc, TheTextsOfTheseTestsCompileForCards) {
  std::string reason;
  const auto nvrtc = NvrtcForTest::Open(reason);
  if (!nvrtc) GTEST_SKIP() << "[SKIP] no NVRTC here: " << reason;
  const std::string texts = std::string(kThreadKernels) + kNumberKernels + kMatrixKernels;
  for (const char* arch : {"sm_80", "sm_90a", "sm_100"}) {
    const std::string text = arch == std::string("sm_80") ? texts : texts + kCopyKernels;
    const CudaReport report = nvrtc->Compile(CudaText(text.c_str()), arch);
    EXPECT_EQ(report.messages, "") << arch;
    for (const toolchain::KernelResources& kernel : report.kernels) {
      EXPECT_GT(kernel.registers, 0) << kernel.entry;
      EXPECT_EQ(kernel.spill_bytes, 0) << kernel.entry;
    }
    EXPECT_NE(report.Find("fragments"), nullptr);
  }
  const CudaReport report = nvrtc->Compile(CudaText("KERNEL(f, 32, 1, i64) { not_there(); }\n"), "sm_90a");
  EXPECT_TRUE(report.kernels.empty());
  EXPECT_NE(report.messages.find("not_there"), std::string::npos) << report.messages;
  // Too many values for the registers that 1024 threads leave.
  const CudaReport spilled = nvrtc->Compile(CudaText(R"text(
struct P { float* x; int n; };
KERNEL(spills, 1024, 2, P) {
  float sum[64];
  UNROLL for (int i = 0; i < 64; ++i) sum[i] = params.x[i * 1024 + ThreadIndex()];
  NO_UNROLL for (int k = 0; k < params.n; ++k) {
    UNROLL for (int i = 0; i < 64; ++i) sum[i] = FusedMultiplyAdd(sum[i], sum[(i + 5) % 64], params.x[k]);
  }
  UNROLL for (int i = 0; i < 64; ++i) params.x[i * 1024 + ThreadIndex()] = sum[i];
}
)text"),
                                            "sm_90a");
  ASSERT_EQ(spilled.kernels.size(), 1u) << spilled.messages;
  EXPECT_LE(spilled.kernels[0].registers, 32);
  EXPECT_GT(spilled.kernels[0].spill_bytes, 0);
}

TEST(Nvrtc, TheRingCompilesForCardsWithoutSpills) {
  std::string reason;
  const auto nvrtc = NvrtcForTest::Open(reason);
  if (!nvrtc) GTEST_SKIP() << "[SKIP] no NVRTC here: " << reason;
  for (const char* arch : {"sm_90a", "sm_100"}) {
    const CudaReport report = nvrtc->Compile(RingUnit(), arch);
    EXPECT_EQ(report.messages, "");
    EXPECT_EQ(report.kernels.size(), std::size(kRingVariants));
    const toolchain::KernelResources* right = report.Find("ring_kRight");
    ASSERT_NE(right, nullptr);
    EXPECT_GT(right->registers, 0);
    EXPECT_EQ(right->spill_bytes, 0);
  }
}

const Target kHopper = ParseTarget("sm_90a");

void ExpectFast(const NvrtcForTest& nvrtc, const std::string& source, const std::string& what) {
  const CudaReport report = nvrtc.Compile(source, "sm_90a");
  EXPECT_EQ(report.messages, "") << what;  // also where products would wait for each other
  EXPECT_FALSE(report.kernels.empty()) << what;
  for (const toolchain::KernelResources& kernel : report.kernels) {
    EXPECT_LE(kernel.spill_bytes, 128)  // set aside once, outside of loops
        << what << ": " << kernel.entry << ", " << kernel.registers << " registers";
  }
}

// As the heuristics choose them for a 3B model.
TEST(Nvrtc, ProductsOfPromptsCompileForHopper) {
  std::string reason;
  const auto nvrtc = NvrtcForTest::Open(reason);
  if (!nvrtc) GTEST_SKIP() << "[SKIP] no NVRTC here: " << reason;
  const MatmulCase cases[] = {
      {.prologue = "rms_norm",
       .epilogue = "rotary_append",
       .k = 3072,
       .columns = {3072, 1024, 1024},
       .out = DType::kBf16,
       .head_dim = 128},
      {.epilogue = "add", .k = 3072, .columns = {3072}, .x = DType::kBf16},
      {.prologue = "rms_norm",
       .epilogue = "silu_mul",
       .k = 3072,
       .columns = {8192, 8192},
       .out = DType::kBf16},
      {.epilogue = "add", .k = 8192, .columns = {3072}, .x = DType::kBf16},
  };
  for (const int64_t rows : {128, 1024}) {
    for (const MatmulCase& c : cases) {
      const MatmulGraph g = MakeGraph(c);
      const StepShape shape = {.rows = rows};
      const Schedule schedule = matmul_region::DefaultSchedule(g.graph, g.matmul, kHopper, shape);
      const RegionCode code = matmul_region::Generate(g.graph, g.matmul, kHopper, shape, schedule);
      ExpectFast(*nvrtc, code.source, c.Name() + " " + ToText(schedule));
    }
  }
}

TEST(Nvrtc, AttentionOfPromptsCompilesForHopper) {
  std::string reason;
  const auto nvrtc = NvrtcForTest::Open(reason);
  if (!nvrtc) GTEST_SKIP() << "[SKIP] no NVRTC here: " << reason;
  for (const auto& [group, head_dim] : {std::pair{3, 128}, {4, 64}}) {
    const AttentionCase c = {.target = kHopper,
                             .kv_heads = 8,
                             .group = group,
                             .head_dim = head_dim,
                             .query = DType::kBf16,
                             .cache = DType::kBf16,
                             .result = DType::kBf16};
    const StepShape shape = {.rows = 512};
    for (const Schedule& schedule : attention::Candidates(c.Graph(), AttentionCase::kNode, kHopper, shape)) {
      const RegionCode code = attention::Generate(c.Graph(), AttentionCase::kNode, kHopper, shape, schedule);
      ExpectFast(*nvrtc, code.source, c.Name() + ToText(schedule));
    }
  }
}

}  // namespace
}  // namespace preheat::codegen::cuda
