#include "golden.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "checkpoint/safetensors.h"

namespace preheat::testing {
namespace {

using base::ErrorKind;
using base::MakeError;
using Json = rapidjson::Value;

std::string GoldenFolder() {
  return std::string(PREHEAT_TESTDATA) + "/golden";
}

const Json& Member(const Json& json, const char* name) {
  if (!json.IsObject() || !json.HasMember(name)) {
    throw MakeError(ErrorKind::kCorrupt, "golden.json: there is no \"{}\"; make the goldens again", name);
  }
  return json[name];
}

double Number(const Json& json) {
  if (!json.IsNumber())
    throw MakeError(ErrorKind::kCorrupt, "golden.json: not a number; make the goldens again");
  return json.GetDouble();
}

std::string Text(const Json& json) {
  if (!json.IsString())
    throw MakeError(ErrorKind::kCorrupt, "golden.json: not a text; make the goldens again");
  return json.GetString();
}

template <typename T>
std::vector<T> Numbers(const Json& json) {
  if (!json.IsArray())
    throw MakeError(ErrorKind::kCorrupt, "golden.json: not a list; make the goldens again");
  std::vector<T> numbers;
  for (const Json& item : json.GetArray()) numbers.push_back(static_cast<T>(Number(item)));
  return numbers;
}

tensor::TensorView View(const checkpoint::SafetensorsFile& file, const std::string& name) {
  const auto* entry = file.Find(name);
  if (entry == nullptr) {
    throw MakeError(ErrorKind::kCorrupt, "{}: there is no tensor {}; make the goldens again", file.path(),
                    name);
  }
  return file.View(*entry);
}

std::vector<float> Floats(const tensor::TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.Elements()));
  view.ReadFloats(0, values);
  return values;
}

GoldenPrompt ReadPrompt(const Json& json, const checkpoint::SafetensorsFile& tensors) {
  GoldenPrompt prompt;
  prompt.name = Text(Member(json, "name"));
  prompt.ids = Numbers<int32_t>(Member(json, "ids"));
  prompt.bf16_max_abs_err = Number(Member(json, "bf16_max_abs_err"));
  prompt.bf16_rms_err = Number(Member(json, "bf16_rms_err"));
  prompt.layer_rms_fp32 = Numbers<double>(Member(json, "layer_rms_fp32"));
  const Json& greedy = Member(json, "greedy_fp32");
  prompt.greedy_fp32 = {Numbers<int32_t>(Member(greedy, "tokens")),
                        Numbers<double>(Member(greedy, "margins"))};

  const auto positions = Numbers<int64_t>(Member(json, "positions"));
  const auto full = Numbers<int64_t>(Member(json, "full_row_positions"));
  const tensor::TensorView fp32 = View(tensors, prompt.name + ".logits_fp32");
  const tensor::TensorView bf16 = View(tensors, prompt.name + ".logits_bf16");
  const Json& top = Member(json, "top8_fp32");
  for (size_t i = 0; i < positions.size(); ++i) {
    GoldenPrompt::Row row{positions[i], {}, {}, {}};
    for (const Json& pair : top[static_cast<rapidjson::SizeType>(i)].GetArray()) {
      row.top8.emplace_back(static_cast<int32_t>(Number(pair[0])), static_cast<float>(Number(pair[1])));
    }
    const auto found = std::find(full.begin(), full.end(), positions[i]);
    if (found != full.end()) {
      row.logits_fp32 = Floats(fp32.Rows(found - full.begin(), 1));
      row.logits_bf16 = Floats(bf16.Rows(found - full.begin(), 1));
    }
    prompt.rows.push_back(std::move(row));
  }
  return prompt;
}

}  // namespace

std::vector<std::string> GoldenCaseNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFolder())) {
    if (std::filesystem::exists(entry.path() / "golden.json")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

GoldenCase ReadGoldenCase(const std::string& name) {
  const std::string folder = GoldenFolder() + "/" + name;
  std::stringstream text;
  text << std::ifstream(folder + "/golden.json").rdbuf();
  rapidjson::Document json;
  json.Parse(text.str().c_str());
  if (json.HasParseError()) {
    throw MakeError(ErrorKind::kCorrupt, "{}/golden.json: is not there or no JSON; make the goldens again",
                    folder);
  }
  const auto tensors = checkpoint::SafetensorsFile::Open(folder + "/golden.safetensors");

  GoldenCase golden;
  golden.name = name;
  golden.model_folder = std::filesystem::exists(folder + "/config.json")
                            ? folder
                            : std::string(PREHEAT_SOURCE_DIR) + "/models/" + name;
  golden.inv_freq = Numbers<float>(Member(json, "inv_freq"));
  golden.rope_attention_scaling = static_cast<float>(Number(Member(json, "rope_attention_scaling")));
  for (const Json& prompt : Member(json, "prompts").GetArray())
    golden.prompts.push_back(ReadPrompt(prompt, tensors));
  golden.vocab = static_cast<int64_t>(golden.prompts.at(0).rows.back().logits_fp32.size());

  const Json& cache = Member(json, "cache");
  const size_t length = static_cast<size_t>(Number(Member(cache, "prompt_length")));
  for (const GoldenPrompt& prompt : golden.prompts) {
    if (prompt.ids.size() == length) golden.cache_prompt = prompt.name;
  }
  golden.cache_positions = Numbers<int64_t>(Member(cache, "positions"));
  const tensor::TensorView keys = View(tensors, "cache.layer0.keys");
  golden.kv_heads = keys.shape()[0];
  golden.head_dim = keys.shape()[2];
  golden.cache_keys = Floats(keys);
  golden.cache_values = Floats(View(tensors, "cache.layer0.values"));
  return golden;
}

double LargestDifference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? HUGE_VAL : difference;
  }
  return largest;
}

GoldenCheck::Bound GoldenCheck::BoundFor(tensor::DType dtype) {
  switch (dtype) {
    case tensor::DType::kBf16:
      return Bound::kBf16;
    case tensor::DType::kF16:
      return Bound::kF16;
    default:
      return Bound::kFp32;
  }
}

void GoldenCheck::AddRows(const GoldenPrompt& prompt, std::span<const float> logits, int64_t first_position) {
  const int64_t rows = static_cast<int64_t>(logits.size()) / golden_.vocab;
  if (rows * golden_.vocab != static_cast<int64_t>(logits.size())) {
    failures_ += fmt::format("{} {}: {} logits are no rows of {}\n", golden_.name, prompt.name, logits.size(),
                             golden_.vocab);
    return;
  }
  for (const GoldenPrompt::Row& row : prompt.rows) {
    if (row.position < first_position || row.position >= first_position + rows) continue;
    AddRow(prompt, row,
           logits.subspan(static_cast<size_t>((row.position - first_position) * golden_.vocab),
                          static_cast<size_t>(golden_.vocab)));
  }
}

void GoldenCheck::AddRow(const GoldenPrompt& prompt, const GoldenPrompt::Row& row,
                         std::span<const float> logits) {
  double largest = 0;
  for (const auto& [id, value] : row.top8) {
    largest = std::max(largest, LargestDifference({&logits[static_cast<size_t>(id)], 1}, {&value, 1}));
  }
  if (!row.logits_fp32.empty()) {
    largest = std::max(largest, LargestDifference(logits, row.logits_fp32));
    for (size_t i = 0; i < logits.size(); ++i) {
      const double error = static_cast<double>(logits[i]) - row.logits_fp32[i];
      const double bf16_error = static_cast<double>(row.logits_bf16[i]) - row.logits_fp32[i];
      squares_ += error * error;
      bf16_squares_ += bf16_error * bf16_error;
    }
    count_ += static_cast<int64_t>(logits.size());
  }
  largest_ = std::max(largest_, largest);
  if (bound_ == Bound::kFp32 && !(largest <= kFp32Bound)) {
    failures_ += fmt::format("{} {} position {}: a logit is {} from fp32: allowed {}\n", golden_.name,
                             prompt.name, row.position, largest, kFp32Bound);
  }
}

void GoldenCheck::AddTokens(const GoldenPrompt& prompt, std::span<const int32_t> tokens) {
  const auto& expected = prompt.greedy_fp32;
  // Below this margin another order of rounding may rightly choose the other token, and all after it differ.
  const double narrow = bound_ == Bound::kFp32 ? 2 * kFp32Bound : 2 * prompt.bf16_max_abs_err;
  for (size_t step = 0; step < std::min(tokens.size(), expected.tokens.size()); ++step) {
    if (expected.margins[step] < narrow) return;
    if (tokens[step] == expected.tokens[step]) continue;
    failures_ += fmt::format("{} {}: token {} is {}: expected {} (margin {})\n", golden_.name, prompt.name,
                             step, tokens[step], expected.tokens[step], expected.margins[step]);
    return;
  }
}

double GoldenCheck::RmsError() const {
  return std::sqrt(squares_ / static_cast<double>(std::max<int64_t>(count_, 1)));
}
double GoldenCheck::Bf16RmsError() const {
  return std::sqrt(bf16_squares_ / static_cast<double>(std::max<int64_t>(count_, 1)));
}
double GoldenCheck::Bf16LargestError() const {
  double largest = 0;
  for (const GoldenPrompt& prompt : golden_.prompts) largest = std::max(largest, prompt.bf16_max_abs_err);
  return largest;
}

void GoldenCheck::AddDecodedRows(const GoldenPrompt& prompt, session::StepRunner& runner, size_t by_prefill) {
  runner.Reset();
  runner.Prefill(std::span(prompt.ids).first(by_prefill), 0);
  AddRows(prompt, runner.logits(), static_cast<int64_t>(by_prefill) - 1);
  for (size_t i = by_prefill; i < prompt.ids.size(); ++i) {
    runner.SetToken(prompt.ids[i]);
    runner.Decode();
    AddRows(prompt, runner.logits(), static_cast<int64_t>(i));
  }
}

void GoldenCheck::AddGreedyTokens(const GoldenPrompt& prompt, session::StepRunner& runner, size_t most) {
  std::vector<int32_t> tokens = {runner.token()};
  const size_t wanted = std::min(most, prompt.greedy_fp32.tokens.size());
  runner.DecodeUntil(static_cast<int64_t>(wanted) - 1, [&](int32_t token) {
    tokens.push_back(token);
    return tokens.size() < wanted;
  });
  AddTokens(prompt, tokens);
}

std::string GoldenCheck::Failures() const {
  std::string failures = failures_;
  if (count_ == 0) failures += fmt::format("{}: no row was compared\n", golden_.name);
  if (bound_ == Bound::kFp32) return failures;
  const double rms_factor = bound_ == Bound::kBf16 ? 1.1 : 0.25;
  const double largest_factor = bound_ == Bound::kBf16 ? 1.5 : 0.25;
  if (!(RmsError() <= rms_factor * Bf16RmsError())) {
    failures += fmt::format("{}: rms error {}: allowed {} x {}\n", golden_.name, RmsError(), rms_factor,
                            Bf16RmsError());
  }
  if (!(largest_ <= largest_factor * Bf16LargestError())) {
    failures += fmt::format("{}: largest error {}: allowed {} x {}\n", golden_.name, largest_, largest_factor,
                            Bf16LargestError());
  }
  return failures;
}

std::string GoldenCheck::Summary() const {
  return fmt::format("rms {:.2e} ({:.2f} x bf16), max {:.2e} ({:.2f} x bf16)", RmsError(),
                     RmsError() / Bf16RmsError(), largest_, largest_ / Bf16LargestError());
}

}  // namespace preheat::testing
