#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "artifact/artifact.h"
#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/exit_code.h"
#include "cli/json_text.h"
#include "cli/options.h"
#include "device/open.h"
#include "hub/hub.h"
#include "preload/metadata.h"
#include "program/program.h"
#include "sys/code_image.h"

namespace preheat::cli {
namespace {

// Ordered from best to worst.
enum class Verdict { kUsable, kNeedsCompiling, kUnusable };

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kUsable:
      return "usable";
    case Verdict::kNeedsCompiling:
      return "needs compiling";
    case Verdict::kUnusable:
      return "unusable";
  }
  return "";
}

struct Finding {
  std::string entry;  // "decode (x86-64-v3, profile default)"
  Verdict verdict = Verdict::kUsable;
  std::string factor;  // what stands in the way, or is to be known of what is usable; empty: nothing
};

// What is to be known of PTX that runs on this machine's card.
std::string PtxText(const device::RunnableTargets& mine) {
  std::string text = "target: PTX, which this card's driver compiles when it is loaded";
  if (mine.machine_code.empty()) return text;
  return text + fmt::format(", where there is no machine code for {}", fmt::join(mine.machine_code, " or "));
}

Finding JudgeProgram(artifact::Artifact& artifact, const artifact::ManifestEntry& entry,
                     const device::RunnableTargets& mine,
                     const std::optional<checkpoint::Checkpoint>& checkpoint) {
  const std::string target = entry.Part("target");
  Finding finding = {
      .entry = fmt::format("{} ({}, profile {})", entry.Part("step"), target, entry.Part("profile"))};
  const auto judge = [&](Verdict verdict, std::string factor) {
    if (verdict < finding.verdict) return;
    finding.verdict = verdict;
    finding.factor = std::move(factor);
  };
  if (std::ranges::find(mine.ptx, target) != mine.ptx.end()) {
    judge(Verdict::kUsable, PtxText(mine));
  } else if (std::ranges::find(mine.machine_code, target) == mine.machine_code.end()) {
    const std::vector<std::string>& runs = sys::IsPtxTarget(target) ? mine.ptx : mine.machine_code;
    judge(Verdict::kUnusable,
          fmt::format("target: needs {}, this machine runs {}", target,
                      runs.empty() ? "nothing of that kind" : fmt::format("{}", fmt::join(runs, ", "))));
  }
  if (entry.Part("abi") != std::to_string(PH_ABI_VERSION)) {
    judge(Verdict::kNeedsCompiling,
          fmt::format("abi: made for {}, this version has {}", entry.Part("abi"), PH_ABI_VERSION));
  }
  if (checkpoint) {
    const std::string hash = checkpoint::ConfigHash(checkpoint->config());
    if (entry.Part("model") != hash) {
      judge(Verdict::kUnusable, "model: made for other shapes than this checkpoint's");
    }
    const std::string weights(tensor::Name(checkpoint->dtype()));
    if (entry.Part("weights") != weights) {
      judge(Verdict::kNeedsCompiling,
            fmt::format("weights: made for {}, the checkpoint holds {}", entry.Part("weights"), weights));
    }
  }
  const auto bytes = artifact.Get(entry.kind, entry.name);
  const program::Program program = program::FromJson(bytes->text(), finding.entry);
  for (const std::string& code : program::CodeHashes(program)) {
    if (!artifact.Get(store::EntryKind::kCode, code)) {
      judge(Verdict::kNeedsCompiling, fmt::format("code: {} is not in the artifact", code.substr(0, 12)));
    }
  }
  return finding;
}

}  // namespace

int VerifyCommand(const Words& words) {
  std::string path;
  std::string model_id;
  bool json = false;
  DeviceOptions options;
  Arguments arguments("preheat verify",
                      "Says of each program in an artifact whether it serves this machine and model.");
  arguments.Positional("ARTIFACT", path, "The file");
  arguments.Text("--model-id", model_id, "Check against this model too");
  arguments.Flag("--json", json, "Print one JSON document");
  AddDeviceOptions(arguments, options);
  if (arguments.Parse(words) == Arguments::Outcome::kHelpShown) return kExitDone;
  ApplyDeviceOptions(options);

  artifact::Artifact artifact = artifact::Artifact::Open(path);
  std::optional<checkpoint::Checkpoint> checkpoint;
  if (!model_id.empty()) checkpoint = checkpoint::Checkpoint::Open(hub::ResolveModel(model_id));
  const auto has_ptx = [&](const std::vector<std::string>& targets) {
    return preload::HaveOneInCommon(artifact.manifest().purpose.targets, targets);
  };
  const device::RunnableTargets mine = device::TargetsOf(options.device, {.has_ptx = has_ptx});
  std::vector<Finding> findings;
  for (const artifact::ManifestEntry& entry : artifact.manifest().entries) {
    if (entry.kind == store::EntryKind::kProgram)
      findings.push_back(JudgeProgram(artifact, entry, mine, checkpoint));
  }
  // The artifact is as good as its best programs: those of other targets do not count against it.
  Verdict best = Verdict::kUnusable;
  for (const Finding& finding : findings) best = std::min(best, finding.verdict);

  if (json) {
    JsonText out;
    out.Begin().Field("path", path).Field("verdict", VerdictName(best)).Key("programs").BeginList();
    for (const Finding& finding : findings) {
      out.Begin()
          .Field("program", finding.entry)
          .Field("verdict", VerdictName(finding.verdict))
          .Field("factor", finding.factor)
          .End();
    }
    out.EndList().End();
    fmt::print("{}", out.Text());
  } else {
    for (const Finding& finding : findings) {
      fmt::print("{}: {}{}{}\n", finding.entry, VerdictName(finding.verdict),
                 finding.factor.empty() ? "" : ": ", finding.factor);
    }
    fmt::print("{}: {}\n", path, VerdictName(best));
  }
  switch (best) {
    case Verdict::kUsable:
      return kExitDone;
    case Verdict::kNeedsCompiling:
      return kExitWouldCompile;
    case Verdict::kUnusable:
      return kExitIncompatible;
  }
  return kExitFailed;
}

}  // namespace preheat::cli
