#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/backends.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/output_file.h"
#include "sys/files.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;

struct LogitsOptions {
  SharedOptions shared;
  GenerationOptions generation;
  bool all_positions = false;
  int64_t decode_from = 0;  // 0: everything by prefill
  std::string output;
  bool json = false;
};

std::optional<LogitsOptions> Parse(const Words& words) {
  LogitsOptions options;
  std::string ids;
  options.shared.compile_mode = "default";
  options.generation.max_new_tokens = 1;
  Arguments arguments("preheat logits", "Writes the logits of a prompt to a safetensors file.");
  arguments.Text("--model-id", options.shared.model_id, "A folder, or a model of the local hub cache");
  arguments.Text("--prompt", options.generation.prompt, "Raw text; BOS is put before it");
  arguments.Text("--prompt-ids", ids, "Token ids, taken as they are");
  arguments.Flag("--all-positions", options.all_positions, "A row for each position, not only the last");
  arguments.Count("--decode-from", options.decode_from, 1,
                  "The first N ids by prefill, the others one by one");
  arguments.Text("--output", options.output, "File to write: tensor `logits`, f32 [rows, vocab]");
  arguments.Choice("--execution", options.generation.execution, {"compiled", "eager", "interpreter"},
                   "What computes it");
  arguments.Choice("--dtype", options.shared.dtype, DTypeNames(), "Arithmetic; auto: the checkpoint's own");
  arguments.Choice("--compile-mode", options.shared.compile_mode,
                   {"default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"},
                   "How schedules are chosen");
  arguments.Text("--target", options.generation.target,
                 "Compiled code for this target; empty: the best that this machine runs");
  arguments.Text("--cache-path", options.shared.cache_path, "Preload this artifact");
  arguments.Text("--metadata-path", options.shared.metadata_path, "The artifact's metadata file");
  arguments.Flag("--forbid-compile", options.generation.forbid_compile, "Fail rather than compile anything");
  arguments.Flag("--json", options.json, "Print one JSON document");
  AddDeviceOptions(arguments, options.shared.device);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return std::nullopt;
  if (options.output.empty()) throw MakeError(ErrorKind::kInvalidArgument, "logits needs --output FILE");
  if (arguments.Given("--prompt") == arguments.Given("--prompt-ids")) {
    throw MakeError(ErrorKind::kInvalidArgument, "logits needs either --prompt or --prompt-ids");
  }
  if (!options.generation.target.empty() && options.generation.execution != "compiled") {
    throw MakeError(ErrorKind::kInvalidArgument,
                    "--target names compiled code: leave it out with --execution {}",
                    options.generation.execution);
  }
  if (arguments.Given("--prompt-ids")) options.generation.prompt_ids = ParseIds("--prompt-ids", ids);
  if (!arguments.Given("--cache-path")) options.shared.cache_path.clear();
  return options;
}

// Feeds the prompt step by step and gathers the rows that were asked for.
std::vector<float> Gather(Engine& engine, const LogitsOptions& options, int64_t& rows) {
  session::StepRunner& runner = engine.runner();
  const std::span<const int32_t> prompt(engine.prompt());
  const auto length = static_cast<int64_t>(prompt.size());
  const int64_t by_prefill = options.decode_from > 0 ? std::min(options.decode_from, length) : length;
  std::vector<float> logits;
  const auto take = [&] {
    if (!options.all_positions) logits.clear();
    const std::span<const float> step = runner.logits();
    logits.insert(logits.end(), step.begin(), step.end());
  };
  // A program that gives all rows gives those of one piece at a time.
  const int64_t piece = options.all_positions ? Engine::kPieceRows : by_prefill;
  for (int64_t begin = 0; begin < by_prefill; begin += piece) {
    const int64_t count = std::min(piece, by_prefill - begin);
    runner.Prefill(prompt.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), 0);
    take();
  }
  for (int64_t i = by_prefill; i < length; ++i) {
    runner.SetToken(prompt[static_cast<size_t>(i)]);
    runner.Decode();
    take();
  }
  rows = options.all_positions ? length : 1;
  return logits;
}

// A safetensors file of one tensor: header size, JSON header padded to 8 bytes, data.
void WriteLogits(const std::string& path, const std::vector<float>& logits, int64_t rows, int64_t vocab) {
  const std::span<const std::byte> data = std::as_bytes(std::span(logits));
  std::string header = fmt::format(R"({{"logits":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,{}]}}}})",
                                   rows, vocab, data.size());
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t header_size = header.size();
  std::string file(reinterpret_cast<const char*>(&header_size), sizeof(header_size));
  file += header;
  file.append(reinterpret_cast<const char*>(data.data()), data.size());
  sys::WriteFileAtomic(path, file);
}

}  // namespace

int LogitsCommand(const Words& words) {
  const auto options = Parse(words);
  if (!options) return kExitDone;
  ApplyDeviceOptions(options->shared.device);
  PrepareOutput(options->output);
  const Backends backends = FullBackends();
  Engine engine({.shared = options->shared,
                 .generation = options->generation,
                 .load_artifacts = !options->shared.cache_path.empty(),
                 .logit_rows = options->all_positions ? program::LogitRows::kAll : program::LogitRows::kLast},
                backends);
  int64_t rows = 0;
  const std::vector<float> logits = Gather(engine, *options, rows);
  const auto vocab = static_cast<int64_t>(logits.size()) / rows;
  WriteLogits(options->output, logits, rows, vocab);
  if (options->json) {
    JsonText out;
    out.Begin().Field("path", options->output).Field("shape", std::vector<int64_t>{rows, vocab});
    out.Field("prompt_tokens", static_cast<int64_t>(engine.prompt().size()));
    out.Field("execution", options->generation.execution).Field("target", engine.facts().target);
    out.Field("dtype", engine.facts().dtype);
    out.Field("async_compile_miss", engine.counters().async_compile_miss).End();
    fmt::print("{}", out.Text());
    return kExitDone;
  }
  fmt::print("[logits] wrote {}: logits f32 [{}, {}] ({}, {})\n", options->output, rows, vocab,
             engine.facts().target, engine.facts().dtype);
  return kExitDone;
}

}  // namespace preheat::cli
