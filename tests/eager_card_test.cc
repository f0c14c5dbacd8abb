// Eager execution on a card against transformers, on a card and with a cuBLASLt that are this machine; short
// prompts, as in golden_host_card_test. With $PREHEAT_TEST_CARD (cuda:0), on that card with the real library.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error_for_test.h"
#include "checkpoint/checkpoint.h"
#include "compile/card_eager.h"
#include "device/cuda/cuda_device.h"
#include "eager/card_matmul.h"
#include "golden.h"
#include "host_cublaslt.h"
#include "host_cuda.h"
#include "session/session.h"
#include "store/store.h"

namespace preheat::testing {
namespace {

using checkpoint::Checkpoint;
using program::LogitRows;

constexpr size_t kLongestPrompt = 5;
constexpr size_t kTokens = 4;

class EagerModel {
 public:
  // dtype: of the arithmetic.
  EagerModel(const Checkpoint& checkpoint, store::Store& store, tensor::DType dtype, LogitRows logit_rows)
      : device_(OpenCard()),
        matmul_(RealCard() == nullptr ? HostCublasLt() : eager::OpenCublasLt(), *device_) {
    std::vector<device::HostTensor> tensors;
    for (const checkpoint::ExpectedTensor& expected : checkpoint::ExpectedTensors(checkpoint.config())) {
      tensors.push_back({expected.name, checkpoint.Tensor(expected.name, expected.shape).bytes()});
    }
    weights_ = device_->PlaceWeights(std::move(tensors));
    programs_ = compile::MakeCardEager(store, {.config = checkpoint.config(),
                                               .weight_dtype = checkpoint.dtype(),
                                               .dtype = dtype,
                                               .target = device_->Targets().front(),
                                               .logit_rows = logit_rows,
                                               .compiler = CardCompiler()})
                    .programs;
    const session::Bindings bindings = {
        .weight = [&](const std::string& name, const program::Weight&) { return weights_->Address(name); },
        .code =
            [&](const std::string& hash) {
              held_.push_back(std::move(*store.Get(store::EntryKind::kCode, hash)));
              return held_.back().span();
            },
        .library = [&](const std::string& library,
                       const std::string& entry) { return matmul_.Resolve(library, entry); },
        .await_weights = [this] { weights_->Wait(); }};
    session_ = std::make_unique<session::Session>(*device_, programs_, bindings,
                                                  session::SessionOptions{.capacity = 64});
  }

  session::Session& session() { return *session_; }
  int64_t widened_bytes() const { return matmul_.widened_bytes(); }

 private:
  std::unique_ptr<device::Device> device_;
  eager::CardMatmul matmul_;
  std::unique_ptr<device::Weights> weights_;
  std::vector<program::Program> programs_;
  std::vector<store::EntryBytes> held_;
  std::unique_ptr<session::Session> session_;
};

class EagerCard : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (RealCard() == nullptr && !HostCardRuns())
      GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  }
  static size_t LongestPrompt() { return RealCard() == nullptr ? kLongestPrompt : 1000; }
};

TEST_P(EagerCard, PrefillAndDecodeStayWithinTheBounds) {
  const GoldenCase golden = ReadGoldenCase(GetParam());
  const Checkpoint checkpoint = Checkpoint::Open(golden.model_folder);
  store::Store store = store::Store::InMemory();
  EagerModel all(checkpoint, store, checkpoint.dtype(), LogitRows::kAll);
  GoldenCheck prefill(golden, GoldenCheck::BoundFor(checkpoint.dtype()));
  GoldenCheck decode(golden, GoldenCheck::BoundFor(checkpoint.dtype()));
  for (const GoldenPrompt& prompt : golden.prompts) {
    if (prompt.ids.size() > std::min<size_t>(LongestPrompt(), 60)) continue;
    all.session().Reset();
    all.session().Prefill(prompt.ids, 0);
    prefill.AddRows(prompt, all.session().logits(), 0);
  }
  EagerModel last(checkpoint, store, checkpoint.dtype(), LogitRows::kLast);
  for (const GoldenPrompt& prompt : golden.prompts) {
    if (prompt.ids.size() > std::min<size_t>(LongestPrompt(), 32)) continue;
    // All but the first by decode, then tokens of the program's own choice, which run ahead of the host.
    decode.AddDecodedRows(prompt, last.session(), 1);
    decode.AddGreedyTokens(prompt, last.session(), kTokens);
  }
  EXPECT_EQ(prefill.Failures(), "");
  EXPECT_EQ(decode.Failures(), "");
}

// Every product in fp32, so within the bound of fp32 weights.
TEST(EagerCardWidened, NarrowWeightsAreWidenedOnceAndMultipliedExactly) {
  if (RealCard() == nullptr && !HostCardRuns())
    GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  const GoldenCase golden = ReadGoldenCase("bias_bf16");
  const Checkpoint checkpoint = Checkpoint::Open(golden.model_folder);
  store::Store store = store::Store::InMemory();
  EagerModel model(checkpoint, store, tensor::DType::kF32, LogitRows::kAll);
  GoldenCheck check(golden, GoldenCheck::Bound::kFp32);
  int64_t widened_bytes = 0;
  for (const GoldenPrompt& prompt : golden.prompts) {
    if (prompt.ids.size() > kLongestPrompt) continue;
    model.session().Reset();
    model.session().Prefill(prompt.ids, 0);
    check.AddRows(prompt, model.session().logits(), 0);
    if (widened_bytes == 0) widened_bytes = model.widened_bytes();
    EXPECT_EQ(model.widened_bytes(), widened_bytes);
  }
  EXPECT_EQ(check.Failures(), "");
  EXPECT_GT(widened_bytes, 0);
}

// One launch an operation, as on a CPU: nothing is fused.
TEST(EagerCardPrograms, EachOperationIsALaunchAndEachProductACall) {
  const GoldenCase golden = ReadGoldenCase("bias_bf16");
  const Checkpoint checkpoint = Checkpoint::Open(golden.model_folder);
  store::Store store = store::Store::InMemory();
  if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  const HostCudaCompiler compiler;
  const compile::CardEagerOptions options = {
      .config = checkpoint.config(), .target = "sm_90a", .compiler = &compiler};
  const compile::CardEager made = compile::MakeCardEager(store, options);
  EXPECT_GT(made.compiled, 0);
  store::Store nothing = store::Store::InMemory();
  compile::CardEagerOptions forbidden = options;
  forbidden.may_compile = false;
  (void)base::Complaint([&] { (void)compile::MakeCardEager(nothing, forbidden); },
                        base::ErrorKind::kWouldCompile);
  EXPECT_EQ(compile::MakeCardEager(store, forbidden).compiled, 0);
  EXPECT_EQ(compile::MakeCardEager(store, options).compiled, 0) << "the store has them now";
  const std::vector<program::Program>& programs = made.programs;
  ASSERT_EQ(programs.size(), 2u);
  EXPECT_EQ(programs[0].name, "prefill_any");
  EXPECT_EQ(programs[1].name, "decode");
  EXPECT_EQ(programs[1].kv.name, "bf16-rows8");
  for (const program::Program& program : programs) {
    std::vector<std::string> layer;
    for (const program::Segment& segment : program.segments) {
      for (const program::Launch& launch : segment.launches) {
        if (segment.repeat > 1) layer.push_back(launch.region);
        const bool product = launch.region.starts_with("linear");
        EXPECT_EQ(launch.code == "library:cublaslt", product) << launch.region;
      }
    }
    EXPECT_THAT(layer,
                ::testing::ElementsAre("rms_norm", "linear_bias", "rotary", "linear_bias", "rotary",
                                       "linear_bias", "append", "attention", "linear_bias", "add", "rms_norm",
                                       "linear_bias", "silu", "linear_bias", "mul", "linear_bias", "add"));
  }
}

TEST(CardMatmulTest, AsksOncePerShapeAndLeavesNothingBehind) {
  if (!HostCardRuns()) GTEST_SKIP() << "[SKIP] kernels cannot run on the host in this build";
  const HostCublasLtCalls before = TheCublasLtCalls();
  TheHostCard() = {};
  device::CudaDevice device(HostDriver(), 0);
  {
    eager::CardMatmul matmul(HostCublasLt(), device);
    // y [rows, 2] = x [rows, 3] weight^T [3, 2], f32, rows of x 4 apart.
    std::vector<float> y(8), x = {1, 2, 3, 99, 4, 5, 6, 99}, weight = {1, 0, 0, 1, 1, 1};
    void* operands[] = {y.data(), x.data(), weight.data()};
    const auto f32 = static_cast<int64_t>(tensor::DType::kF32);
    const std::vector<int64_t> constants = {f32, 0, 2, 2, f32, 0, 3, 4, f32, 2, 3, 3};
    ph_args args = {.operands = operands, .constants = constants.data(), .rows = 2};
    const device::Kernel kernel = matmul.Resolve("cublaslt", "linear");
    const device::Launch launch = {.kernel = kernel, .args = &args, .operands = 3, .tiles = 1};
    for (int i = 0; i < 3; ++i) device.Run({&launch, 1});
    EXPECT_THAT(std::span(y).first(4), ::testing::ElementsAre(1, 6, 4, 15));
    args.rows = 1;
    device.Run({&launch, 1});
    EXPECT_EQ(TheCublasLtCalls().products - before.products, 4);
    EXPECT_EQ(TheCublasLtCalls().heuristics - before.heuristics, 2);
    EXPECT_THROW(matmul.Resolve("cublaslt", "probe"), base::Error);
    EXPECT_THROW(matmul.Resolve("eager", "linear"), base::Error);

    // bf16 activations and an f32 weight are no product of the library's.
    std::vector<int64_t> mixed = constants;
    mixed[4] = static_cast<int64_t>(tensor::DType::kBf16);
    args.constants = mixed.data();
    EXPECT_THROW(device.Run({&launch, 1}), base::Error);
  }
  EXPECT_EQ(TheCublasLtCalls().alive, before.alive);
}

INSTANTIATE_TEST_SUITE_P(Cases, EagerCard,
                         ::testing::Values("bias_bf16", "gqa4_hd128_untied_bf16", "hd_wide_fp16",
                                           "mha_tied_fp32"),
                         [](const auto& subject) { return std::string(subject.param); });

}  // namespace
}  // namespace preheat::testing
