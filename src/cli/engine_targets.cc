// Which of its targets a model runs with on the engine's device, and what is said where there is none.
#include <fmt/ranges.h>

#include <utility>

#include "base/error.h"
#include "cli/engine.h"

namespace preheat::cli {
namespace {

using base::ErrorKind;
using base::MakeError;

// What a device's machine code is for, in words.
std::string RunsText(const device::Device& device) {
  const std::vector<std::string> mine = device.Targets();
  return mine.empty() ? "no machine code of ours" : fmt::format("{}", fmt::join(mine, ", "));
}

}  // namespace

// Where the artifact has nothing for this device, that is why something was to be compiled at all.
preload::Provision Engine::Provide(store::EntrySource& source, const preload::CompileFunction& compile) {
  try {
    if (auto found = preload::FindForBestTarget(source, family_, TargetsToFind(), plan_.steps, counters_))
      return std::move(*found);
    return preload::ProvideForBestTarget(source, family_, Targets(), plan_.steps, compile, counters_);
  } catch (const base::Error& error) {
    if (!artifact_ || HasCodeForDevice()) throw;
    throw error.WithContext(fmt::format("{} is for {}, and {} runs {}", request_.shared.cache_path,
                                        fmt::join(artifact_->manifest().purpose.targets, ", "),
                                        device_->name(), RunsText(*device_)));
  }
}

bool Engine::HasCodeForDevice() const {
  const std::vector<std::string>& targets = artifact_->manifest().purpose.targets;
  return preload::HaveOneInCommon(targets, device_->Targets()) ||
         preload::HaveOneInCommon(targets, device_->PtxTargets());
}

// What may be looked for, best first: PTX, which the driver has to compile, behind all machine code.
std::vector<std::string> Engine::TargetsToFind() const {
  if (!request_.generation.target.empty()) return Targets();
  std::vector<std::string> targets = device_->Targets();
  for (std::string& target : device_->PtxTargets()) targets.push_back(std::move(target));
  return targets;
}

// What may be compiled for, best first: what this machine runs and the user allows. PTX is only made where a
// user names it.
std::vector<std::string> Engine::Targets() const {
  if (!request_.generation.target.empty()) {
    device_->CheckTarget(request_.generation.target);
    return {request_.generation.target};
  }
  return device::TargetsOrThrow(*device_);
}

// Where nothing may be compiled, an artifact for another model or machine is said to be just that.
void Engine::CheckArtifactFits() const {
  const artifact::Manifest& manifest = artifact_->manifest();
  if (manifest.model.config_hash != family_.config_hash) {
    throw MakeError(
        ErrorKind::kIncompatible,
        "{}: made for another model ({}): its shapes are not those of {}; build an artifact for this model",
        request_.shared.cache_path, manifest.model.id, request_.shared.model_id);
  }
  if (HasCodeForDevice()) return;
  const std::vector<std::string> mine = device_->Targets(), ptx = device_->PtxTargets();
  if (mine.empty() && ptx.empty()) Targets();  // throws
  std::vector<std::string> advice;
  if (!mine.empty()) advice.push_back("build with --targets " + mine.front());
  if (!ptx.empty()) advice.push_back("use " + device::PtxAdvice(ptx.front()));
  throw MakeError(ErrorKind::kIncompatible, "{}: made for {}, but this {} ({}) runs {}; {}",
                  request_.shared.cache_path, fmt::join(manifest.purpose.targets, ", "),
                  device_->gpu() ? "card" : "processor", device_->name(), RunsText(*device_),
                  fmt::join(advice, ", or "));
}

}  // namespace preheat::cli
