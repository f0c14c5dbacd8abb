// Reads testdata/golden and judges an engine by it: the interpreter, compiled code, eager libraries, in fp32
// or bf16. testdata/golden/README.md explains the fields and where the bounds come from.
//
//   for (const std::string& name : GoldenCaseNames()) {
//     const GoldenCase golden = ReadGoldenCase(name);
//     GoldenCheck check(golden, GoldenCheck::Bound::kFp32);
//     for (const GoldenPrompt& prompt : golden.prompts) {
//       check.AddRows(prompt, logits, 0);  // [positions, vocab]
//       check.AddTokens(prompt, tokens);   // greedy continuation, as many as were made
//     }
//     EXPECT_EQ(check.Failures(), "");
//   }
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "session/step_runner.h"
#include "tensor/dtype.h"

namespace preheat::testing {

struct GoldenPrompt {
  struct Row {
    int64_t position;
    std::vector<float> logits_fp32;  // [vocab], or empty where only the top eight were kept
    std::vector<float> logits_bf16;
    std::vector<std::pair<int32_t, float>> top8;
  };
  struct Greedy {
    std::vector<int32_t> tokens;
    std::vector<double> margins;  // fp32: largest minus second logit before each token
  };
  std::string name;  // "n17", "chat0"
  std::vector<int32_t> ids;
  std::vector<Row> rows;  // by position; the last is the prompt's last
  Greedy greedy_fp32;
  double bf16_max_abs_err = 0;
  double bf16_rms_err = 0;
  std::vector<double> layer_rms_fp32;  // last position: embedding, each layer, final norm
};

struct GoldenCase {
  std::string name;
  std::string model_folder;  // config.json and weights
  std::vector<float> inv_freq;
  float rope_attention_scaling = 1;
  int64_t vocab = 0;
  std::vector<GoldenPrompt> prompts;
  std::string cache_prompt;              // the prompt whose layer-0 cache was kept
  std::vector<int64_t> cache_positions;  // at these positions
  int64_t kv_heads = 0, head_dim = 0;
  std::vector<float> cache_keys;    // [kv_heads, cache_positions.size(), head_dim], after rotation
  std::vector<float> cache_values;  // likewise
};

// All cases, in the order of their names.
std::vector<std::string> GoldenCaseNames();
// Throws base::Error where the files are not there or not as their README says.
GoldenCase ReadGoldenCase(const std::string& name);

// Collects what an engine gave for the prompts of one case and holds it against the stated bounds.
class GoldenCheck {
 public:
  enum class Bound {
    kFp32,  // fp32 arithmetic: every logit within 1e-3 of fp32
    kBf16,  // bf16 weights: over the case, rms <= 1.1 x and max <= 1.5 x transformers' own bf16 error
    kF16,   // fp16 weights in reduced arithmetic: rms and max <= a quarter of transformers' bf16 error
  };
  GoldenCheck(const GoldenCase& golden, Bound bound) : golden_(golden), bound_(bound) {}

  // For weights of this type.
  static Bound BoundFor(tensor::DType dtype);

  // Logits of the prompt's positions first_position, first_position + 1, ...: [rows, vocab]. Rows that golden
  // does not have are skipped; may be called several times a prompt (prefill, then decode steps).
  void AddRows(const GoldenPrompt& prompt, std::span<const float> logits, int64_t first_position);
  // The greedy continuation, up to the first step whose margin is below 2 x bf16_max_abs_err (kFp32: below
  // 2e-3).
  void AddTokens(const GoldenPrompt& prompt, std::span<const int32_t> tokens);

  // Feeds the prompt to a runner that gives the last row's logits, the first `by_prefill` ids at once and the
  // others one by one, and adds each row.
  void AddDecodedRows(const GoldenPrompt& prompt, session::StepRunner& runner, size_t by_prefill);
  // Adds the token that the runner has chosen and those that follow, `most` at most.
  void AddGreedyTokens(const GoldenPrompt& prompt, session::StepRunner& runner, size_t most);

  // One line a failure; empty where everything holds. A case none of whose rows were added fails.
  std::string Failures() const;
  // "rms 0.0021 (0.10 x bf16), max 0.013 (0.12 x bf16)", for logs.
  std::string Summary() const;

 private:
  static constexpr double kFp32Bound = 1e-3;

  void AddRow(const GoldenPrompt& prompt, const GoldenPrompt::Row& row, std::span<const float> logits);
  double RmsError() const;
  double Bf16RmsError() const;      // transformers' own, over the rows that were added
  double Bf16LargestError() const;  // transformers' own, over the case

  const GoldenCase& golden_;
  Bound bound_;
  std::string failures_;
  double squares_ = 0;       // of our errors, over full rows
  double bf16_squares_ = 0;  // of transformers' bf16 errors, over the same
  int64_t count_ = 0;
  double largest_ = 0;
};

// The largest absolute difference; sizes must be equal (else infinity).
double LargestDifference(std::span<const float> a, std::span<const float> b);

}  // namespace preheat::testing
