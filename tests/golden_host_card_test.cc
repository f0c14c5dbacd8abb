// Compiled programs for CUDA against transformers, on a card that is this machine: short prompts, since every
// thread of a block is run in turn. golden_compiled_test with $PREHEAT_TEST_CARD does the whole of it on a
// real one.
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <tuple>

#include "compiled_model.h"
#include "golden.h"
#include "host_cuda.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

constexpr size_t kLongestPrompt = 17;
constexpr size_t kTokens = 4;

using Subject = std::tuple<const char*, const char*>;  // golden case, target

class GoldenHostCard : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  }

  CompiledModel Compile(std::vector<StepSpec> steps) {
    return CompiledModel(checkpoint_, store_, {.target = std::get<1>(GetParam()), .steps = std::move(steps)});
  }

  const GoldenCase golden_ = ReadGoldenCase(std::get<0>(GetParam()));
  const Checkpoint checkpoint_ = Checkpoint::Open(golden_.model_folder);
  store::Store store_ = store::Store::InMemory();
};

TEST_P(GoldenHostCard, PrefillAndDecodeStayWithinTheBounds) {
  CompiledModel all = Compile({StepSpec::AllLogits()});
  CompiledModel last = Compile({StepSpec::AnyLength(), StepSpec::Decode()});
  GoldenCheck prefill(golden_, GoldenCheck::BoundFor(all.dtype()));
  GoldenCheck decode(golden_, GoldenCheck::BoundFor(all.dtype()));
  for (const GoldenPrompt& prompt : golden_.prompts) {
    if (prompt.ids.size() > kLongestPrompt) continue;
    all.session().Reset();
    all.session().Prefill(prompt.ids, 0);
    prefill.AddRows(prompt, all.session().logits(), 0);

    last.session().Reset();
    last.session().Prefill(prompt.ids, 0);
    prefill.AddRows(prompt, last.session().logits(), prompt.ids.size() - 1);

    // All but the first by decode, then tokens of the program's own choice, which run ahead of the host.
    decode.AddDecodedRows(prompt, last.session(), 1);
    decode.AddGreedyTokens(prompt, last.session(), kTokens);
  }
  EXPECT_EQ(prefill.Failures(), "");
  EXPECT_EQ(decode.Failures(), "");
}

TEST_P(GoldenHostCard, PaddingAndWhatLiesInItChangeNoBit) {
  CompiledModel model = Compile({StepSpec::Bucket(32)});
  const std::vector<int32_t>& ids = golden_.prompts[1].ids;  // 5 tokens in a bucket of 32
  model.session().Prefill(ids, 32);
  const std::vector<float> clean(model.session().logits().begin(), model.session().logits().end());
  model.session().Reset();
  model.session().Prefill(golden_.prompts[2].ids, 32);  // leaves its rows in every buffer and in the cache
  model.session().Reset();
  model.session().Prefill(ids, 32);
  EXPECT_EQ(LargestDifference(clean, model.session().logits()), 0);
}

std::string SubjectName(const ::testing::TestParamInfo<Subject>& info) {
  return fmt::format("{}_{}", std::get<0>(info.param), std::get<1>(info.param));
}
INSTANTIATE_TEST_SUITE_P(
    Cases, GoldenHostCard,
    ::testing::Values(Subject{"bias_bf16", "sm_90a"}, Subject{"gqa3_24_8_bf16", "sm_90a"},
                      Subject{"gqa4_hd128_untied_bf16", "sm_90a"}, Subject{"hd_wide_fp16", "sm_90a"},
                      Subject{"mha_tied_fp32", "sm_90a"}, Subject{"gqa3_24_8_bf16", "sm_80"},
                      Subject{"mha_tied_fp32", "sm_80"}, Subject{"gqa3_24_8_bf16", "compute_90"}),
    SubjectName);

}  // namespace
}  // namespace preheat::testing
