// Compiled programs against transformers: every golden case on every target that this machine runs, by
// prefill and by decode, found again in the store, padded and not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <ostream>

#include "base/error.h"
#include "compiled_model.h"
#include "golden.h"
#include "host_cuda.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

struct Subject {
  std::string golden;
  std::string target;
};

void PrintTo(const Subject& subject, std::ostream* out) {
  *out << subject.golden << " on " << subject.target;
}

std::vector<Subject> Subjects() {
  std::vector<Subject> subjects;
  for (const std::string& golden : GoldenCaseNames()) {
    for (const std::string& target : RunnableTargets()) subjects.push_back({golden, target});
  }
  return subjects;
}

std::vector<float> Copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

class GoldenCompiled : public ::testing::TestWithParam<Subject> {
 protected:
  const GoldenCase golden_ = ReadGoldenCase(GetParam().golden);
  const Checkpoint checkpoint_ = Checkpoint::Open(golden_.model_folder);
  store::Store store_ = store::Store::InMemory();

  CompiledModel Compile(std::vector<StepSpec> steps) {
    return CompiledModel(checkpoint_, store_, {.target = GetParam().target, .steps = std::move(steps)});
  }
};

TEST_P(GoldenCompiled, PrefillAndDecodeStayWithinTheBounds) {
  CompiledModel all = Compile({StepSpec::AllLogits(), StepSpec::Decode()});
  CompiledModel last = Compile({StepSpec::AnyLength(), StepSpec::Decode()});
  GoldenCheck prefill(golden_, GoldenCheck::BoundFor(all.dtype()));
  GoldenCheck decode(golden_, GoldenCheck::BoundFor(all.dtype()));
  for (const GoldenPrompt& prompt : golden_.prompts) {
    all.session().Reset();
    all.session().Prefill(prompt.ids, 0);
    prefill.AddRows(prompt, all.session().logits(), 0);

    // The program that users run computes less of the last layer.
    last.session().Reset();
    last.session().Prefill(prompt.ids, 0);
    prefill.AddRows(prompt, last.session().logits(), prompt.ids.size() - 1);

    // All but the first few positions by decode.
    decode.AddDecodedRows(prompt, last.session(), std::min<size_t>(3, prompt.ids.size()));

    // Greedy tokens by the program's own choice.
    last.session().Reset();
    last.session().Prefill(prompt.ids, 0);
    prefill.AddGreedyTokens(prompt, last.session(), 24);
  }
  EXPECT_EQ(prefill.Failures(), "");
  EXPECT_EQ(decode.Failures(), "");
  fmt::print("{} {}: prefill {}; decode {}\n", golden_.name, GetParam().target, prefill.Summary(),
             decode.Summary());
}

TEST_P(GoldenCompiled, FoundAgainCompilesNothingAndGivesTheSameBits) {
  CompiledModel cold = Compile({StepSpec::AnyLength(), StepSpec::Decode()});
  EXPECT_EQ(cold.counters().aot_cache_miss, 2);
  EXPECT_GT(cold.counters().async_compile_miss, 0);
  CompiledModel warm = Compile({StepSpec::AnyLength(), StepSpec::Decode()});
  EXPECT_EQ(warm.counters(), preload::CompileCounters{});
  EXPECT_EQ(warm.programs(), cold.programs());
  for (CompiledModel* model : {&cold, &warm}) {
    model->session().Prefill(golden_.prompts[2].ids, 0);
    model->session().Decode();
  }
  EXPECT_TRUE(SameBits(cold.session().logits(), warm.session().logits()));
}

TEST_P(GoldenCompiled, PaddingAndWhatLiesInItChangeNoBit) {
  CompiledModel model = Compile({StepSpec::Bucket(128), StepSpec::Decode()});
  const std::vector<int32_t>& ids = golden_.prompts[2].ids;  // 17 tokens in a bucket of 128
  model.session().Prefill(ids, 128);
  const std::vector<float> clean = Copy(model.session().logits());
  // A longer prompt leaves its rows in every buffer and in the cache; the padding of the next one is made of
  // them.
  for (const GoldenPrompt& prompt : golden_.prompts) {
    if (prompt.ids.size() != 128) continue;
    model.session().Reset();
    model.session().Prefill(prompt.ids, 128);
  }
  model.session().Reset();
  model.session().Prefill(ids, 128);
  EXPECT_TRUE(SameBits(clean, model.session().logits()));
}

TEST_P(GoldenCompiled, ABucketAndAnyLengthAgree) {
  CompiledModel bucket = Compile({StepSpec::Bucket(128)});
  CompiledModel any = Compile({StepSpec::AnyLength()});
  const std::vector<int32_t>& ids = golden_.prompts[2].ids;
  bucket.session().Prefill(ids, 128);
  any.session().Prefill(ids, 0);
  EXPECT_LE(LargestDifference(bucket.session().logits(), any.session().logits()), 1e-3);
}

TEST_P(GoldenCompiled, APromptInPiecesIsThePromptAtOnce) {
  CompiledModel model = Compile({StepSpec::AnyLength()});
  const GoldenPrompt& prompt = *std::max_element(
      golden_.prompts.begin(), golden_.prompts.end(),
      [](const GoldenPrompt& x, const GoldenPrompt& y) { return x.ids.size() < y.ids.size(); });
  const std::span<const int32_t> ids(prompt.ids);
  ASSERT_GT(ids.size(), 17u);
  model.session().Prefill(ids, 0);
  const std::vector<float> whole = Copy(model.session().logits());
  model.session().Reset();
  model.session().Prefill(ids.first(15), 0);
  model.session().Prefill(ids.subspan(15, 1), 0);
  model.session().Prefill(ids.subspan(16), 0);
  const double bound = model.dtype() == tensor::DType::kBf16 ? 1.5 * prompt.bf16_max_abs_err : 1e-3;
  EXPECT_LE(LargestDifference(whole, model.session().logits()), bound);
}

std::string SubjectName(const ::testing::TestParamInfo<Subject>& info) {
  std::string name = info.param.golden + "_" + info.param.target;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenCompiled, ::testing::ValuesIn(Subjects()), SubjectName);

TEST(GraphBreak, FullgraphRefusesAndNoFullgraphRunsTheOperationEager) {
  const Checkpoint checkpoint = Checkpoint::Open(ReadGoldenCase("gqa3_24_8_bf16").model_folder);
  store::Store store = store::Store::InMemory();
  CompiledModelOptions options = {.target = RunnableTargets().back(), .probe_layers = true};
  try {
    CompiledModel(checkpoint, store, options);
    FAIL() << "nothing was thrown";
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_NE(error.message().find("probe"), std::string::npos) << error.message();
  }
  options.fullgraph = false;
  if (RealCard() != nullptr) {  // the library knows the host's memory alone
    try {
      CompiledModel(checkpoint, store, options);
      FAIL() << "nothing was thrown";
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported) << error.message();
    }
    return;
  }
  CompiledModel broken(checkpoint, store, options);
  EXPECT_FALSE(broken.report().graph_breaks.empty());
  options.probe_layers = false;
  CompiledModel whole(checkpoint, store, options);
  EXPECT_TRUE(whole.report().graph_breaks.empty());
  const std::vector<int32_t> ids = {0, 5, 9, 3};
  broken.session().Prefill(ids, 0);
  whole.session().Prefill(ids, 0);
  EXPECT_LE(LargestDifference(broken.session().logits(), whole.session().logits()), 2e-2);
}

TEST(Dtype, Bf16WeightsInFp32ArithmeticGiveFp32Logits) {
  const GoldenCase golden = ReadGoldenCase("config_v5_bf16");
  const Checkpoint checkpoint = Checkpoint::Open(golden.model_folder);
  for (const std::string& target : RunnableTargets()) {
    store::Store store = store::Store::InMemory();
    CompiledModel model(checkpoint, store, {.target = target, .dtype = "float32"});
    GoldenCheck check(golden, GoldenCheck::Bound::kFp32);
    for (const GoldenPrompt& prompt : golden.prompts) {
      model.session().Reset();
      model.session().Prefill(prompt.ids, 0);
      check.AddRows(prompt, model.session().logits(), 0);
    }
    EXPECT_EQ(check.Failures(), "") << target;
  }
}

}  // namespace
}  // namespace preheat::testing
