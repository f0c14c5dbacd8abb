#include "session/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/error_for_test.h"
#include "device/cpu/cpu_device.h"

namespace preheat::session {
namespace {

using base::Complaint;
using program::Operand;
using program::StepKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What the test's kernels saw, in order. Tiles of one launch run on one thread here.
struct Call {
  std::string kernel;
  int64_t rows;
  int64_t past;
  int weight;  // the first byte of the first operand, where it is a weight
  int steps = 0;
};
std::vector<Call>* calls = nullptr;

void Layer(const ph_args* args, int64_t, int64_t, void*) {
  calls->push_back({"layer", args->rows, args->past, *static_cast<const int*>(args->operands[0])});
}

// logits[i] = the step's last id + i; the token is that id + 1.
void Head(const ph_args* args, int64_t, int64_t, void*) {
  const auto* ids = static_cast<const int32_t*>(args->operands[0]);
  auto* state = static_cast<ph_state*>(args->operands[1]);
  auto* logits = static_cast<float*>(args->operands[2]);
  const int32_t last = ids[args->rows - 1];
  for (int i = 0; i < 10; ++i) logits[i] = static_cast<float>(last + i);
  state->token = last + 1;
  calls->push_back({"head", args->rows, args->past, 0, state->steps});
  ++state->steps;
}

program::Program TestProgram(const std::string& name, StepKind kind, int64_t max_rows) {
  program::Program program = {
      .name = name, .target = "test", .kind = kind, .max_rows = max_rows, .vocab_size = 10, .layers = 3};
  program.kv = {.name = "test", .position_block = 4, .key_bytes = {0, 0, 8}, .value_bytes = {0, 0, 8}};
  program.rotary = {.inv_freq = {1.0f, 0.5f}};
  program.weights = {{.name = "layers.{}.w", .dtype = tensor::DType::kF32, .shape = {1}}};
  const program::Launch layer = {
      .region = "layer", .code = "library:test", .entry = "layer", .operands = {{Operand::Kind::kWeight, 0}}};
  const program::Launch head = {
      .region = "head",
      .code = "library:test",
      .entry = "head",
      .operands = {{Operand::Kind::kIds}, {Operand::Kind::kState}, {Operand::Kind::kLogits}}};
  program.segments = {{.repeat = 2, .launches = {layer}},
                      {.repeat = 1, .launches = {layer}, .first = 2},
                      {.repeat = 1, .launches = {head}}};
  return program;
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { calls = &calls_; }

  Session Make(std::vector<program::Program> programs, const SessionOptions& options) {
    return Session(device_, std::move(programs), bindings_, options);
  }
  std::vector<std::string> Kernels() const {
    std::vector<std::string> names;
    for (const Call& call : calls_) names.push_back(call.kernel);
    return names;
  }

  std::vector<Call> calls_;
  std::map<std::string, int> weights_ = {{"layers.0.w", 100}, {"layers.1.w", 101}, {"layers.2.w", 102}};
  device::CpuDevice device_{{.threads = 1}};
  Bindings bindings_ = {
      .weight = [this](const std::string& name, const program::Weight&) -> const void* {
        return &weights_.at(name);
      },
      .code = nullptr,
      .library = [](const std::string& library, const std::string& entry) -> device::Kernel {
        EXPECT_EQ(library, "test");
        return {.host = entry == "layer" ? Layer : Head};
      }};
  const program::Program decode_ = TestProgram("decode", StepKind::kDecode, 1);
  const program::Program any_ = TestProgram("prefill_any", StepKind::kPrefill, 0);
  const program::Program bucket_ = TestProgram("prefill_8", StepKind::kPrefill, 8);
};

TEST_F(SessionTest, ARepeatedSegmentGetsEachLayersWeightsInOrder) {
  Session session = Make({any_, decode_}, {.capacity = 16});
  session.Prefill(std::vector<int32_t>{1, 2}, 0);
  EXPECT_THAT(Kernels(), ElementsAre("layer", "layer", "layer", "head"));
  EXPECT_EQ(calls_[0].weight, 100);
  EXPECT_EQ(calls_[2].weight, 102);
  EXPECT_EQ(session.logits()[3], 5.0f);
}

TEST_F(SessionTest, ALaunchMayGetTheNextLayersWeightsAndInTheLastTheFirsts) {
  program::Program any = any_;
  any.weights[0].name = "layers.{+1}.w";
  Session session = Make({any, decode_}, {.capacity = 16});
  session.Prefill(std::vector<int32_t>{1, 2}, 0);
  EXPECT_EQ(calls_[0].weight, 101);
  EXPECT_EQ(calls_[1].weight, 102);
  EXPECT_EQ(calls_[2].weight, 100);
}

TEST_F(SessionTest, DecodeFeedsTheChosenTokenAtTheNextPosition) {
  Session session = Make({any_, decode_}, {.capacity = 16});
  session.Prefill(std::vector<int32_t>{1, 2}, 0);
  session.Decode();
  EXPECT_EQ(calls_.back().past, 2);
  EXPECT_EQ(calls_.back().rows, 1);
  EXPECT_EQ(session.token(), 4);
  EXPECT_EQ(session.length(), 3);
  session.Reset();
  EXPECT_EQ(session.length(), 0);
}

TEST_F(SessionTest, LongPromptsRunInPiecesThatCountAsOneStep) {
  Session session = Make({any_, decode_}, {.capacity = 16, .piece_rows = 4});
  session.Prefill(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}, 0);
  std::vector<int64_t> pasts;
  for (const Call& call : calls_) {
    if (call.kernel == "head") pasts.push_back(call.past);
  }
  EXPECT_THAT(pasts, ElementsAre(0, 4, 8));
  EXPECT_EQ(calls_.back().steps, 0);  // before the choice
}

TEST_F(SessionTest, ABucketServesItsOwnLengthOrAPaddedPrompt) {
  Session session = Make({any_, bucket_, decode_}, {.capacity = 32, .piece_rows = 4});
  session.Prefill(std::vector<int32_t>(8, 1), 0);  // its own length: at once, though longer than a piece
  EXPECT_EQ(calls_.back().rows, 8);
  session.Prefill(std::vector<int32_t>(5, 1), 8);
  EXPECT_EQ(calls_.back().rows, 5);
  EXPECT_EQ(calls_.back().past, 8);
}

TEST_F(SessionTest, APromptThatNoProgramHoldsIsRefused) {
  Session session = Make({bucket_, decode_}, {.capacity = 32});
  EXPECT_THAT(
      Complaint([&] { session.Prefill(std::vector<int32_t>(5, 1), 0); }, base::ErrorKind::kInvalidArgument),
      HasSubstr("5 tokens"));
  EXPECT_THAT(
      Complaint([&] { session.Prefill(std::vector<int32_t>(9, 1), 8); }, base::ErrorKind::kInvalidArgument),
      HasSubstr("bucket 8"));
}

TEST_F(SessionTest, MoreThanTheCacheHoldsIsRefusedBeforeAnythingRuns) {
  Session session = Make({any_, decode_}, {.capacity = 5});
  EXPECT_EQ(session.capacity(), 8);  // whole blocks
  EXPECT_THAT(
      Complaint([&] { session.Prefill(std::vector<int32_t>(9, 1), 0); }, base::ErrorKind::kInvalidArgument),
      HasSubstr("KV cache of 8"));
  EXPECT_TRUE(calls_.empty());
}

TEST_F(SessionTest, IdsOutsideTheVocabularyAreRefused) {
  Session session = Make({any_, decode_}, {.capacity = 8});
  for (int32_t id : {-1, 10}) {
    EXPECT_THAT(
        Complaint([&] { session.Prefill(std::vector<int32_t>{id}, 0); }, base::ErrorKind::kInvalidArgument),
        HasSubstr("vocabulary of 10"));
  }
}

TEST_F(SessionTest, ProgramsThatDisagreeOnTheCacheAreIncompatible) {
  program::Program other = decode_;
  other.kv.name = "other";
  EXPECT_THAT(Complaint(
                  [&] {
                    Make({any_, other}, {.capacity = 8});
                  },
                  base::ErrorKind::kIncompatible),
              HasSubstr("test and other"));
}

TEST_F(SessionTest, WhatAModuleReportsAfterAStepIsThrown) {
  bindings_.check_step = [] { throw base::Error(base::ErrorKind::kToolFailed, "the library failed"); };
  Session session = Make({any_, decode_}, {.capacity = 8});
  Complaint([&] { session.Prefill(std::vector<int32_t>{1}, 0); }, base::ErrorKind::kToolFailed);
}

}  // namespace
}  // namespace preheat::session
