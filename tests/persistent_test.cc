// Decode as one persistent kernel, on a card that is this machine: its logits and tokens are those of decode
// in separate launches and of the interpreter, whatever the number of multiprocessors and the order in which
// threads run.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "capture/llama.h"
#include "checkpoint/synth.h"
#include "compile/interpreter_runner.h"
#include "compiled_model.h"
#include "device/cuda/cuda_device.h"
#include "host_cuda.h"
#include "on_host_card.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

struct Shape {
  int hidden = 512, intermediate = 512, layers = 2, heads = 8, kv_heads = 2, head_dim = 64, vocab = 384;
  bool bias = false;
};

class Persistent : public OnHostCard {
 protected:
  Checkpoint Synthesize(const Shape& shape) {
    const std::string config = folder_.File("config.json");
    sys::WriteFileAtomic(
        config, fmt::format(R"({{"model_type": "llama", "hidden_size": {}, "intermediate_size": {},
          "num_hidden_layers": {}, "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
          "vocab_size": {}, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
          "tie_word_embeddings": true, "attention_bias": {}, "mlp_bias": {}, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}})",
                            shape.hidden, shape.intermediate, shape.layers, shape.heads, shape.kv_heads,
                            shape.head_dim, shape.vocab, shape.bias, shape.bias));
    const std::string model = folder_.File("model");
    (void)checkpoint::Synthesize({.config = checkpoint::SynthShape(config), .seed = 7, .folder = model});
    return Checkpoint::Open(model);
  }

  sys::UniqueTempDir folder_{"persistent-test"};
};

std::vector<float> Copy(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// Of the difference, over that of the values.
double RelativeError(const std::vector<float>& a, std::span<const float> b) {
  double squares = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    squares += double{b[i]} * b[i];
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  }
  return std::sqrt(difference / squares);
}

// Decodes after a prompt by one persistent kernel and by the interpreter.
void ExpectTheInterpretersLogits(const Checkpoint& checkpoint, const codegen::Schedule& schedule) {
  store::Store store = store::Store::InMemory();
  CompiledModel model(checkpoint, store,
                      {.target = "sm_90a",
                       .steps = {StepSpec::AnyLength(), StepSpec::Decode()},
                       .schedules = {{"step", schedule}}});
  ASSERT_GT(model.programs()[1].segments.front().launches.front().link, 0);
  compile::InterpreterRunner interpreter(
      checkpoint, capture::CaptureLlama(checkpoint.config(), {.weight_dtype = checkpoint.dtype()}), 512);
  interpreter.Begin({});
  const std::vector<int32_t> ids = {3, 99, 17, 250, 8, 1, 350, 11, 29, 31, 202, 14};
  model.session().Prefill(ids, 0);
  interpreter.Prefill(ids, 0);
  EXPECT_LT(RelativeError(Copy(model.session().logits()), interpreter.logits()), 0.02);
  for (const int32_t id : {5, 77, 300, 12, 9, 41}) {
    model.session().SetToken(id);
    model.session().Decode();
    interpreter.SetToken(id);
    interpreter.Decode();
    EXPECT_LT(RelativeError(Copy(model.session().logits()), interpreter.logits()), 0.02) << id;
  }
}

TEST_F(Persistent, GivesTheInterpretersLogits) {
  const Checkpoint checkpoint = Synthesize({});
  TheHostCard().multiprocessors = 12;
  ExpectTheInterpretersLogits(checkpoint, {});
}

TEST_F(Persistent, PartsOfThePositionsArePutTogether) {
  const Checkpoint checkpoint = Synthesize({});
  TheHostCard().multiprocessors = 12;
  ExpectTheInterpretersLogits(checkpoint, {{"few", 4}});
}

// Long chunks, wide heads, biases, few blocks, threads in another order.
TEST_F(Persistent, OtherShapesAndOrders) {
  const Checkpoint checkpoint = Synthesize({.hidden = 1024,
                                            .intermediate = 1024,
                                            .layers = 1,
                                            .heads = 8,
                                            .kv_heads = 2,
                                            .head_dim = 128,
                                            .bias = true});
  TheHostCard().multiprocessors = 5;
  TheHostCard().seed = 3;
  ExpectTheInterpretersLogits(checkpoint, {{"few", 8}, {"stages", 7}});
}

// Nine chunks: more of x than a lane keeps in registers, and a length of sum of its own.
TEST_F(Persistent, RowsThatRegistersDoNotHold) {
  const Checkpoint checkpoint = Synthesize({.intermediate = 4608, .layers = 1});
  ExpectTheInterpretersLogits(checkpoint, {});
}

// A slice of a card, or a small one: its blocks take several KV heads each, the last round not all of them.
TEST_F(Persistent, RunsOnFewerMultiprocessorsThanThereAreKvHeads) {
  const Checkpoint checkpoint = Synthesize({.layers = 1, .kv_heads = 8});
  for (const auto& [multiprocessors, few] : {std::pair{3, 512}, {3, 4}, {1, 512}}) {
    SCOPED_TRACE(fmt::format("{} multiprocessors, few {}", multiprocessors, few));
    TheHostCard().multiprocessors = multiprocessors;
    TheHostCard().seed = static_cast<uint64_t>(multiprocessors);
    ExpectTheInterpretersLogits(checkpoint, {{"few", few}});
  }
}

// The same tokens, step after step and request after request: what words hold from before is never taken for
// new.
TEST_F(Persistent, RequestsRepeatThemselves) {
  const Checkpoint checkpoint = Synthesize({.layers = 1});
  TheHostCard().multiprocessors = 7;
  store::Store store = store::Store::InMemory();
  CompiledModel model(checkpoint, store,
                      {.target = "sm_90a", .steps = {StepSpec::AnyLength(), StepSpec::Decode()}});
  std::vector<std::vector<int32_t>> all;
  for (int request = 0; request < 3; ++request) {
    model.session().Reset();
    model.session().Prefill(std::vector<int32_t>{5, 17, 300}, 0);
    std::vector<int32_t>& tokens = all.emplace_back(1, model.session().token());
    model.session().DecodeUntil(3 + request, [&](int32_t token) {
      tokens.push_back(token);
      return true;
    });
  }
  for (size_t i = 0; i < all[0].size(); ++i) {
    EXPECT_EQ(all[0][i], all[1][i]);
    EXPECT_EQ(all[0][i], all[2][i]);
  }
}

// Words that not every step writes: after 85 steps of one part the 86th, the first of two, would wait for a
// tag that is that of zeroed memory, if tags of parts went on with all steps.
TEST_F(Persistent, TheFirstStepWithPartsTakesNothingForPartsThatIsNone) {
  const Checkpoint checkpoint = Synthesize({});
  TheHostCard().multiprocessors = 4;
  store::Store store = store::Store::InMemory();
  constexpr int kPrompt = 16, kSteps = 86;  // three tags a step, from 1 on: the 86th begins with 256
  CompiledModel model(checkpoint, store,
                      {.target = "sm_90a",
                       .steps = {StepSpec::AnyLength(), StepSpec::Decode()},
                       .schedules = {{"step", {{"few", kPrompt + kSteps - 2}}}}});
  compile::InterpreterRunner interpreter(
      checkpoint, capture::CaptureLlama(checkpoint.config(), {.weight_dtype = checkpoint.dtype()}), 512);
  interpreter.Begin({});
  std::vector<int32_t> ids;
  for (int i = 0; i < kPrompt; ++i) ids.push_back(5 * i + 1);
  model.session().Prefill(ids, 0);
  interpreter.Prefill(ids, 0);
  for (int step = 0; step < kSteps; ++step) {
    const int32_t id = (7 * step + 3) % 256;
    model.session().SetToken(id);
    model.session().Decode();
    interpreter.SetToken(id);
    interpreter.Decode();
  }
  EXPECT_LT(RelativeError(Copy(model.session().logits()), interpreter.logits()), 0.02);
}

// Whether a step is one kernel is measured once, and the record decides from then on.
TEST_F(Persistent, AStepRunsAsItWasMeasuredToRunBest) {
  const Checkpoint checkpoint = Synthesize({.layers = 1});
  TheHostCard().multiprocessors = 2;
  store::Store store = store::Store::InMemory();
  const HostCudaCompiler compiler;
  device::CudaDevice device(HostDriver(), 0);
  struct Compiled {
    program::Program program;
    double tune_seconds;
    int64_t kernels;
  };
  const auto compile = [&](const std::string& profile) {
    compile::Compiler steps(store, {.config = checkpoint.config(),
                                    .family = {.target = "sm_90a", .profile = profile},
                                    .tuning_device = &device,
                                    .compiler = &compiler});
    program::Program program = steps.Compile(std::vector<StepSpec>{StepSpec::Decode()}).front();
    return Compiled{std::move(program), steps.report().tune_seconds, steps.counters().async_compile_miss};
  };
  const auto is_one_kernel = [](const Compiled& compiled) {
    return compiled.program.segments.front().launches.front().link > 0;
  };

  const Compiled first = compile("a card");
  EXPECT_GT(first.tune_seconds, 0);
  store::EntryInfo record;
  for (const store::EntryInfo& entry : store.List(store::EntryKind::kTuning)) {
    if (entry.parts[0] == store::KeyPart{"region", "step"}) record = entry;
  }
  ASSERT_FALSE(record.name.empty());
  const std::string best(store.Get(store::EntryKind::kTuning, record.name)->text());
  store::KeyBuilder key;
  for (const store::KeyPart& part : record.parts) key.Add(part.label, part.value);
  ASSERT_EQ(key.Build().name(), record.name);

  const Compiled again = compile("a card");
  EXPECT_EQ(again.tune_seconds, 0);
  EXPECT_EQ(again.kernels, 0);
  EXPECT_TRUE(again.program == first.program);

  EXPECT_EQ(best == "persistent=0", !is_one_kernel(first)) << best;

  const std::string narrow = "few=512 normed=2 stages=11 stalled=2 window=3",
                    wide = "few=512 normed=4 stages=11 stalled=4 window=7";
  store.Put(store::EntryKind::kTuning, key.Build(), best == narrow ? wide : narrow);
  const Compiled other = compile("a card");
  EXPECT_EQ(other.tune_seconds, 0);
  EXPECT_TRUE(is_one_kernel(other));
  EXPECT_FALSE(other.program == first.program);
}

}  // namespace
}  // namespace preheat::testing
