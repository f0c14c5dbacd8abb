// Which of its targets a model runs with on the engine's device, and what is said where there is none.
#include <fmt/ranges.h>

#include <algorithm>
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

// False for one that cannot be read: whoever opens it says why.
bool ArtifactIsFor(const std::string& path, const std::vector<std::string>& targets) {
  try {
    return preload::HaveOneInCommon(artifact::Artifact::ReadManifest(path).purpose.targets, targets);
  } catch (const base::Error&) {
    return false;
  }
}

}  // namespace

device::OpenOptions OpenOptionsWith(const std::string& artifact_path) {
  device::OpenOptions options;
  options.has_ptx = [artifact_path](const std::vector<std::string>& targets) {
    return ArtifactIsFor(artifact_path, targets);
  };
  return options;
}

// Machine code, wherever it is; else PTX of the artifact; else machine code is compiled. PTX in the store was
// made for others.
preload::Provision Engine::FindOrCompile(store::EntrySource& source,
                                         const preload::CompileFunction& compile) {
  const bool chosen = !request_.generation.target.empty();
  const std::vector<std::string> mine = chosen ? Targets() : device_->Targets();
  if (auto found = preload::FindForBestTarget(source, family_, mine, plan_.steps, counters_))
    return std::move(*found);
  preload::ProgramFamily family = family_;
  if (!chosen && artifact_) {
    const std::vector<std::string> ptx = device_->PtxTargets();
    if (auto found = preload::FindForBestTarget(*artifact_, family_, ptx, plan_.steps, counters_))
      return std::move(*found);
    const std::vector<std::string>& built = artifact_->manifest().purpose.targets;
    const auto here = std::ranges::find_first_of(ptx, built);
    if (mine.empty() && here != ptx.end()) {  // nothing can be compiled: what differs is said
      family.target = *here;
      return {family, preload::ProvidePrograms(*artifact_, family, plan_.steps, {}, counters_)};
    }
  }
  family.target = Targets().front();
  return {family, preload::ProvidePrograms(source, family, plan_.steps, compile, counters_)};
}

// Where the artifact has nothing for this device, that is why something was to be compiled at all.
preload::Provision Engine::Provide(store::EntrySource& source, const preload::CompileFunction& compile) {
  try {
    return FindOrCompile(source, compile);
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
