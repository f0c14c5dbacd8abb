// Long and awkward use of one small model on a card that is this machine: many requests in a process, every
// context length, memory that nobody wrote, a card that goes while it works. With $PREHEAT_TEST_CARD the
// lengths are those of a real card, on that card.
#include "host_cuda.h"
#include "on_host_card.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "capture/llama.h"
#include "checkpoint/synth.h"
#include "compile/interpreter_runner.h"
#include "compiled_model.h"
#include "device/cuda/cuda_device.h"
#include "generate/generator.h"
#include "session/memory_plan.h"
#include "sys/env.h"
#include "sys/files.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using preload::StepSpec;

constexpr char kConfig[] = R"json({{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": {0}, "intermediate_size": {0}, "head_dim": {1}, "num_hidden_layers": {2},
  "num_attention_heads": {3}, "num_key_value_heads": 1, "vocab_size": 258, "max_position_embeddings": 16384,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 256,
  "eos_token_id": 257, "initializer_range": 0.02, "torch_dtype": "bfloat16"
}})json";

class HostCardTest : public OnHostCard {
 public:
  enum class Size { kTiny, kSmall, kOneKernel };  // the last: decode is a persistent kernel

 protected:
  Checkpoint MakeModel(tensor::DType dtype, Size size) const {
    const std::string folder = folder_.File("model");
    sys::MakeDirs(folder);
    const std::string config = size == Size::kTiny    ? fmt::format(kConfig, 32, 32, 1, 1)
                               : size == Size::kSmall ? fmt::format(kConfig, 32, 32, 3, 2)
                                                      : fmt::format(kConfig, 512, 64, 1, 8);
    sys::WriteFileAtomic(folder + "/shape.json", std::string_view(config));
    checkpoint::Synthesize({.config = checkpoint::SynthShape(folder + "/shape.json"),
                            .dtype = dtype,
                            .seed = 7,
                            .folder = folder + "/model"});
    return Checkpoint::Open(folder + "/model");
  }
  std::unique_ptr<CompiledModel> Compile(const Checkpoint& checkpoint, std::vector<StepSpec> steps,
                                         int64_t capacity) {
    return std::make_unique<CompiledModel>(
        checkpoint, store_,
        CompiledModelOptions{.target = RealCard() == nullptr ? "sm_90a" : RunnableTargets().front(),
                             .steps = std::move(steps),
                             .capacity = capacity});
  }

  sys::UniqueTempDir folder_{"preheat-host-card"};
  store::Store store_ = store::Store::InMemory();
};

// On the card that $PREHEAT_TEST_CARD names.
class RealCardTest : public HostCardTest {
 protected:
  void SetUp() override {
    if (RealCard() == nullptr) GTEST_SKIP() << "[SKIP] takes a card: PREHEAT_TEST_CARD=cuda:0";
  }
  static size_t FreeBytes() {
    size_t free_bytes = 0, total_bytes = 0;
    EXPECT_EQ(device::cuda::OpenDriver().MemGetInfo(&free_bytes, &total_bytes), 0);
    return free_bytes;
  }
};

std::vector<int32_t> Ids(int64_t count, int32_t first = 3) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((first + i * 37) % 256));
  return ids;
}

TEST_F(HostCardTest, AThousandRequestsGiveTheSameTokensAndTakeNoMore) {
  if (RealCard() != nullptr) GTEST_SKIP() << "[SKIP] what it counts is of the host's card";
  TheHostCard().multiprocessors = 1;  // fewer threads of blocks to run in turn
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const HostCardUse before = UseOfHostCard();
  {
    const auto model =
        Compile(checkpoint, {StepSpec::Bucket(1), StepSpec::AnyLength(), StepSpec::Decode()}, 32);
    // Of one token and of more; the last is cut short where a step has run ahead.
    const std::vector<std::vector<int32_t>> prompts = {Ids(1), Ids(1, 9), Ids(1, 50), Ids(2, 200)};
    std::vector<std::vector<int32_t>> first;
    const auto request = [&](size_t i) {
      generate::GenerateOptions options = {.max_new_tokens = static_cast<int64_t>(i), .ignore_end = true};
      options.max_new_tokens = std::max<int64_t>(1, options.max_new_tokens);
      int taken = 0;
      options.on_token = [&](int32_t) { ++taken; };
      if (i == 3) options.cancelled = [&] { return taken == 2; };
      return generate::Generate(model->session(), prompts[i], options).ids;
    };
    for (size_t i = 0; i < prompts.size(); ++i) first.push_back(request(i));
    EXPECT_EQ(first[2].size(), 2u);
    EXPECT_EQ(first[3].size(), 2u);
    HostCardUse use = UseOfHostCard();
    const session::MemoryPlan plan = session::PlanMemory(model->programs(), {.capacity = 32});
    // What inspect tells of memory is what was taken; weights lie on multiples of 256 bytes.
    EXPECT_GE(use.bytes - before.bytes, static_cast<int64_t>(plan.total_bytes()));
    EXPECT_LT(use.bytes - before.bytes, static_cast<int64_t>(plan.total_bytes()) + 256 * 64);
    for (int i = 0; i < 1000; ++i) {
      const size_t which = i % 20 == 19 ? 3 : i % 10 == 9 ? 2 : static_cast<size_t>(i) % 2;
      ASSERT_EQ(request(which), first[which]) << "request " << i;
    }
    HostCardUse after = UseOfHostCard();
    EXPECT_GT(after.launches, use.launches + 1000);
    use.launches = after.launches;
    use.overlapping_launches = after.overlapping_launches;
    EXPECT_EQ(after, use);
  }
  HostCardUse after = UseOfHostCard();
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.host_allocations, before.host_allocations);
  EXPECT_EQ(after.modules, before.modules);
  EXPECT_EQ(after.recordings, before.recordings);
}

TEST_F(RealCardTest, AThousandRequestsGiveTheSameTokensAndTakeNoMore) {
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kOneKernel);
  const auto model =
      Compile(checkpoint, {StepSpec::Bucket(512), StepSpec::AnyLength(), StepSpec::Decode()}, 1024);
  const auto request = [&](int64_t i) {
    const generate::GenerateOptions options = {
        .max_new_tokens = 1 + i * 9, .bucket = i % 2 == 0 ? 512 : 0, .ignore_end = true};
    return generate::Generate(model->session(), Ids(1 + i * 40), options).ids;
  };
  constexpr int64_t kKinds = 8;
  std::vector<std::vector<int32_t>> first;
  for (int64_t i = 0; i < kKinds; ++i) first.push_back(request(i));
  const size_t free_bytes = FreeBytes();
  for (int64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(request(i * 5 % kKinds), first[static_cast<size_t>(i * 5 % kKinds)]) << "request " << i;
  }
  EXPECT_EQ(FreeBytes(), free_bytes);
}

// The card may have ended the steps that run ahead before the host looks for the first one's token.
TEST_F(HostCardTest, TokensOfStepsThatRanAheadAreThoseOfStepsOneByOne) {
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const auto model = Compile(checkpoint, {StepSpec::AnyLength(), StepSpec::Decode()}, 96);
  session::Session& session = model->session();
  session.Reset();
  session.Prefill(Ids(5), 0);
  std::vector<int32_t> one_by_one = {session.token()};
  for (int i = 0; i < 80; ++i) {  // more than the ring holds
    session.Decode();
    one_by_one.push_back(session.token());
  }
  session.Reset();
  session.Prefill(Ids(5), 0);
  std::vector<int32_t> ahead = {session.token()};
  session.DecodeUntil(80, [&](int32_t token) {
    ahead.push_back(token);
    return true;
  });
  EXPECT_EQ(ahead, one_by_one);
}

TEST_F(HostCardTest, ADecodeStepIsRecordedOnceAndVerboseTellsHow) {
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const auto model = Compile(checkpoint, {StepSpec::AnyLength(), StepSpec::Decode()}, 32);
  const auto said_of_request = [&] {
    const base::LogLevel before = base::log_level();
    base::SetLogLevel(base::LogLevel::kVerbose);
    ::testing::internal::CaptureStderr();
    EXPECT_NO_THROW(generate::Generate(model->session(), Ids(5), {.max_new_tokens = 4, .ignore_end = true}));
    base::SetLogLevel(before);
    return ::testing::internal::GetCapturedStderr();
  };
  const std::string first = said_of_request(), second = said_of_request();
  EXPECT_THAT(first,
              ::testing::MatchesRegex(
                  "(preheat: weights .*\n)?preheat: decode step recorded: [0-9]+ launches in [0-9.]+ ms\n"));
  EXPECT_EQ(second, "");
}

// Lets a model of each length run against one row each of the interpreter's.
class EveryLength : public HostCardTest,
                    public ::testing::WithParamInterface<std::pair<tensor::DType, HostCardTest::Size>> {
 protected:
  void SetUp() override {
    if (RealCard() != nullptr) return;
    HostCardTest::SetUp();
    if (GetParam().second == Size::kOneKernel)
      GTEST_SKIP() << "[SKIP] takes a card; see persistent_test, too";
  }

  void Interpret(const Checkpoint& checkpoint) {
    compile::InterpreterRunner interpreter(
        checkpoint,
        capture::CaptureLlama(checkpoint.config(),
                              {.logit_rows = program::LogitRows::kAll, .weight_dtype = checkpoint.dtype()}),
        lengths_);
    interpreter.Prefill(ids_, 0);
    logits_.assign(interpreter.logits().begin(), interpreter.logits().end());
    vocab_ = static_cast<size_t>(checkpoint.config().vocab_size);
    const auto [least, most] = std::ranges::minmax(logits_);
    // fp32 differs in the order of sums; bf16 keeps 8 bits at each of some ten roundings.
    bound_ = (most - least) * (checkpoint.dtype() == tensor::DType::kF32 ? 1e-5f : 3e-2f);
  }
  // The session has just seen so many positions.
  void Expect(session::Session& session, int64_t length, const std::string& how) {
    const std::span row = std::span(logits_).subspan(static_cast<size_t>(length - 1) * vocab_, vocab_);
    const std::span<const float> ours = session.logits();
    ASSERT_EQ(ours.size(), vocab_);
    float gap = 0;
    for (size_t i = 0; i < vocab_; ++i) {
      const float error = std::abs(row[i] - ours[i]);
      gap = std::max(gap, std::isnan(error) ? HUGE_VALF : error);
    }
    EXPECT_LE(gap, bound_) << how << " of length " << length;
    // The interpreter's token, but where two are as good as equal.
    const auto best = std::ranges::max_element(row);
    const auto token = static_cast<size_t>(session.token());
    ASSERT_LT(token, vocab_) << how << " of length " << length;
    EXPECT_LE(*best - row[token], 2 * bound_) << how << " of length " << length;
    exact_ += best - row.begin() == session.token() ? 1 : 0;
    ++all_;
  }

  const int64_t lengths_ = RealCard() == nullptr ? 36 : 8192;
  const std::vector<int64_t> buckets_ =
      RealCard() == nullptr ? std::vector<int64_t>{16, 32} : std::vector<int64_t>{128, 256, 512, 1024};
  const std::vector<int32_t> ids_ = Ids(lengths_);
  std::vector<float> logits_;  // [lengths_, vocab]
  size_t vocab_ = 0;
  float bound_ = 0;
  int exact_ = 0, all_ = 0;
};

TEST_P(EveryLength, GivesTheInterpretersTokensWhateverLiesInMemory) {
  const auto [dtype, size] = GetParam();
  const Checkpoint checkpoint = MakeModel(dtype, size);
  Interpret(checkpoint);
  // Activations, cache, tables and logits begin as NaNs; what must begin as zero is smaller.
  TheHostCard().poisoned_from_bytes = 1024;
  std::vector<StepSpec> steps = {StepSpec::AnyLength(), StepSpec::Decode()};
  for (const int64_t bucket : buckets_) steps.push_back(StepSpec::Bucket(bucket));
  const auto model = Compile(checkpoint, steps, lengths_);
  for (const program::Program& program : model->programs()) {
    for (const program::Buffer& buffer : program.buffers) {
      if (buffer.slot != program::kOwnSlot || RealCard() != nullptr) continue;
      EXPECT_LT(buffer.extent.Bytes(lengths_, 48), 1024) << buffer.name;
    }
  }
  session::Session& session = model->session();
  for (int64_t length = 1; length <= lengths_; ++length) {
    session.Reset();
    session.Prefill(std::span(ids_).first(static_cast<size_t>(length)), 0);
    Expect(session, length, "prefill");
  }
  session.Reset();
  session.Prefill(std::span(ids_).first(1), 0);
  for (int64_t length = 2; length <= lengths_; ++length) {
    session.SetToken(ids_[static_cast<size_t>(length - 1)]);
    session.Decode();
    Expect(session, length, "decode");
  }
  for (const int64_t bucket : buckets_) {
    for (const int64_t length : {int64_t{1}, bucket / 2 + 1, bucket - 1, bucket}) {
      session.Reset();
      session.Prefill(std::span(ids_).first(static_cast<size_t>(length)), bucket);
      Expect(session, length, "bucket " + std::to_string(bucket));
      session.SetToken(ids_[static_cast<size_t>(length)]);
      session.Decode();  // the position after the prompt lies in the bucket's padding
      Expect(session, length + 1, "decode after bucket " + std::to_string(bucket));
    }
    session.Reset();  // one more than the bucket holds: a further piece, at a past that is not 0
    session.Prefill(std::span(ids_).first(static_cast<size_t>(bucket)), bucket);
    session.Prefill(std::span(ids_).subspan(static_cast<size_t>(bucket), 1), 0);
    Expect(session, bucket + 1, "a piece after bucket " + std::to_string(bucket));
  }
  EXPECT_GE(exact_, all_ * (dtype == tensor::DType::kF32 ? 100 : 90) / 100);
}

INSTANTIATE_TEST_SUITE_P(Types, EveryLength,
                         ::testing::Values(std::pair(tensor::DType::kBf16, EveryLength::Size::kSmall),
                                           std::pair(tensor::DType::kF32, EveryLength::Size::kSmall),
                                           std::pair(tensor::DType::kBf16, EveryLength::Size::kOneKernel)),
                         [](const auto& subject) {
                           return std::string(tensor::ShortName(subject.param.first)) +
                                  (subject.param.second == EveryLength::Size::kOneKernel ? "_one_kernel"
                                                                                         : "");
                         });

TEST_F(HostCardTest, ACardThatGoesIsAnErrorAndTheNextDeviceWorks) {
  if (RealCard() != nullptr) GTEST_SKIP() << "[SKIP] what goes is the host's card";
  const Checkpoint checkpoint = MakeModel(tensor::DType::kBf16, Size::kTiny);
  const std::vector<StepSpec> steps = {StepSpec::AnyLength(), StepSpec::Decode()};
  const auto generate = [&](CompiledModel& model) {
    return generate::Generate(model.session(), Ids(5), {.max_new_tokens = 6, .ignore_end = true}).ids;
  };
  auto model = Compile(checkpoint, steps, 32);
  const std::vector<int32_t> tokens = generate(*model);
  const int64_t launches = UseOfHostCard().launches;
  model.reset();
  // In the prompt, at its end, in the first decode step and in one that ran ahead.
  for (const int64_t until : {int64_t{0}, launches / 8, launches / 3, launches / 2, launches - 1}) {
    TheHostCard().launches_until_loss = until;
    model = Compile(checkpoint, steps, 32);
    for (int attempt = 0; attempt < 2; ++attempt) {  // it stays lost, and says so at once
      try {
        generate(*model);
        ADD_FAILURE() << "nothing was thrown with a loss after " << until << " of " << launches;
      } catch (const base::Error& error) {
        EXPECT_EQ(error.kind(), base::ErrorKind::kDevice);
        EXPECT_NE(error.message().find("the card has gone"), std::string::npos) << error.message();
      }
    }
    model.reset();
  }
  TheHostCard() = {};
  EXPECT_EQ(generate(*Compile(checkpoint, steps, 32)), tokens);
}

// What an artifact that nobody vouches for may ask of a card: an error, not the end of the process.
TEST_F(HostCardTest, LaunchesThatNoCompilerMakesAreErrors) {
  device::CudaDevice device(HostDriver(), 0);
  std::vector<void*> operands(PH_MOST_OPERANDS + 1, nullptr);
  const ph_args args = {.operands = operands.data()};
  device::Launch launch = {
      .kernel = {.device = this}, .args = &args, .operands = PH_MOST_OPERANDS + 1, .tiles = 1};
  const auto message_of = [](auto run) -> std::string {
    try {
      run();
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kCorrupt);
      return error.message();
    }
    return "";
  };
  const std::span<const device::Launch> launches(&launch, 1);
  EXPECT_NE(message_of([&] { device.Run(launches); }).find("has 17 operands"), std::string::npos);
  EXPECT_NE(message_of([&] { (void)device.Record(launches); }).find("has 17 operands"), std::string::npos);
  launch.link = 1;
  EXPECT_NE(message_of([&] { (void)device.Record(launches); }).find("has 17 operands"), std::string::npos);
  EXPECT_NE(message_of([&] { device.Run(launches); }).find("cannot be recorded"), std::string::npos);
}

// Code for 8.0 runs on 8.6, too, where a block has less shared memory.
TEST_F(HostCardTest, ALaunchThatTakesMoreSharedMemoryThanTheCardHasIsAnError) {
  TheHostCard().capability = 86;
  device::CudaDevice device(HostDriver(), 0);
  const ph_args args = {};
  const device::Launch launch = {
      .kernel = {.device = this},
      .args = &args,
      .tiles = 1,
      .blocks = {.threads = 32, .shared_bytes = device.info().shared_bytes_per_block + 1}};
  try {
    device.Run(std::span(&launch, 1));
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kIncompatible);
    EXPECT_TRUE(error.message().ends_with("; build for sm_86")) << error.message();
  }
}

}  // namespace
}  // namespace preheat::testing
