// Prompts on a card that is this machine are tuned as whole steps, too: by what was measured region by
// region, or by the heuristics.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "capture/llama.h"
#include "checkpoint/checkpoint.h"
#include "codegen/codegen.h"
#include "compile/compiler.h"
#include "compile/lower.h"
#include "compile/schedule_chooser.h"
#include "device/cuda/cuda_device.h"
#include "golden.h"
#include "host_cuda.h"
#include "ir/graph.h"
#include "passes/pipeline.h"
#include "store/store.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;
using store::EntryKind;

constexpr int kMultiprocessors = 2;

class PromptTrial : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
    TheHostCard().multiprocessors = kMultiprocessors;
  }
  void TearDown() override { TheHostCard() = {}; }

  struct Compiled {
    program::Program program;
    double tune_seconds;
    int64_t kernels;
  };
  Compiled Compile(const StepSpec& step, const std::string& profile) {
    const HostCudaCompiler compiler;
    device::CudaDevice device(HostDriver(), 0);
    compile::Compiler steps(store_, {.config = checkpoint_.config(),
                                     .family = {.target = "sm_90a", .profile = profile},
                                     .tuning_device = &device,
                                     .threads = kMultiprocessors,
                                     .compiler = &compiler});
    program::Program program = steps.Compile(std::vector<StepSpec>{step}).front();
    return {std::move(program), steps.report().tune_seconds, steps.counters().async_compile_miss};
  }

  static store::Key KeyOf(const store::EntryInfo& entry, const std::string& profile) {
    store::KeyBuilder key;
    for (const store::KeyPart& part : entry.parts)
      key.Add(part.label, part.label == "profile" ? profile : part.value);
    return key.Build();
  }
  // Of a whole step with these schedules, by node, as its record has it.
  std::string TextOf(const std::map<ir::NodeId, codegen::Schedule>& schedules) const {
    codegen::Schedule all;
    for (const auto& [node, schedule] : schedules) {
      for (const auto& [name, value] : schedule) all[compile::RegionName(graph_, node) + "." + name] = value;
    }
    return codegen::ToText(all);
  }

  const Checkpoint checkpoint_ = Checkpoint::Open(ReadGoldenCase("gqa4_hd128_untied_bf16").model_folder);
  const ir::Graph graph_ =
      passes::RunPasses(capture::CaptureLlama(checkpoint_.config(), {.weight_dtype = checkpoint_.dtype()}),
                        {.kind = passes::StepKind::kPrefill, .math = passes::Math::kBf16});
  store::Store store_ = store::Store::InMemory();
};

// Of regions that were measured one by one, all were fastest by the heuristics but attention: whether the
// step is faster so is measured once, and the record decides from then on.
TEST_F(PromptTrial, RunsAsTheWholeStepWasFastest) {
  const StepSpec step = StepSpec::Bucket(16);
  Compile(step, "a card");
  const codegen::Target target = codegen::ParseTarget("sm_90a");
  const codegen::StepShape shape = {.rows = 16, .threads = kMultiprocessors};
  std::map<ir::NodeId, codegen::Schedule> guessed, measured;
  for (const ir::Block& block : graph_.blocks) {
    for (const ir::NodeId node : block.nodes) {
      if (!codegen::CanCompile(graph_, node, target)) continue;
      guessed[node] = codegen::DefaultSchedule(graph_, node, target, shape);
      const bool attention = graph_[node].op == ir::Op::kAttention;
      measured[node] = attention ? codegen::Candidates(graph_, node, target, shape).back() : guessed[node];
    }
  }
  ASSERT_NE(TextOf(guessed), TextOf(measured));
  const std::string other = "another card";
  for (const store::EntryInfo& record : store_.List(EntryKind::kTuning)) {
    for (const auto& [node, schedule] : measured) {
      if (record.parts[0].value == compile::RegionSignature(graph_, node))
        store_.Put(EntryKind::kTuning, KeyOf(record, other), codegen::ToText(schedule));
    }
  }

  EXPECT_GT(Compile(step, other).tune_seconds, 0);
  std::optional<store::Key> key;
  for (const store::EntryInfo& record : store_.List(EntryKind::kTuning)) {
    if (record.parts[0].value != "step") continue;
    if (KeyOf(record, other).name() == record.name) key = KeyOf(record, other);
  }
  ASSERT_TRUE(key.has_value());
  const auto compile_by = [&](const std::string& text) {
    store_.Put(EntryKind::kTuning, *key, text);
    const Compiled compiled = Compile(step, other);
    EXPECT_EQ(compiled.tune_seconds, 0);
    EXPECT_EQ(compiled.kernels, 0);
    return compiled.program;
  };
  const std::string best(store_.Get(EntryKind::kTuning, key->name())->text());
  EXPECT_TRUE(best == TextOf(guessed) || best == TextOf(measured)) << best;
  const auto attention_bytes = [](const program::Program& program) {
    for (const program::Launch& launch : program.segments[1].launches) {
      if (launch.region == "attention") return launch.blocks.shared_bytes;
    }
    return int64_t{0};
  };
  const int64_t by_guess = attention_bytes(compile_by(TextOf(guessed)));
  const int64_t as_measured = attention_bytes(compile_by(TextOf(measured)));
  EXPECT_GT(by_guess, 0);
  EXPECT_GT(as_measured, by_guess);  // 128 positions in five slots, not 64 in eight
}

}  // namespace
}  // namespace preheat::testing
