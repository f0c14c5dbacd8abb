#include "compile/code_maker.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "abi/kernel_abi.h"
#include "base/log.h"
#include "base/progress.h"
#include "sys/clock.h"
#include "sys/cpu.h"

namespace preheat::compile {
namespace {

using store::EntryKind;

}  // namespace

const toolchain::Compiler& CodeMaker::Compiler() {
  if (compiler_ == nullptr) {
    found_compiler_ = toolchain::FindCompiler(target_);
    compiler_ = found_compiler_.get();
  }
  return *compiler_;
}

store::Key CodeMaker::KeyOf(const std::string& text) {
  return store::KeyBuilder()
      .Add("abi", PH_ABI_VERSION)
      .Add("compiler", Compiler().Identity())
      .Add("flags", Compiler().FlagsText(target_))
      .Add("target", target_)
      .AddHashOf("source", text)
      .Build();
}

// A compile entry: the code's hash, then, on lines of its own, what the compiler reported.
std::optional<std::string> CodeMaker::FindCode(const store::Key& key) {
  const auto entry = store_.Get(EntryKind::kCompile, key.name());
  if (!entry) return std::nullopt;
  const std::string_view text = entry->text();
  const size_t end = std::min(text.find('\n'), text.size());
  std::string hash(text.substr(0, end));
  if (!store_.Get(EntryKind::kCode, hash)) return std::nullopt;
  KeepReport(hash, text.substr(end));
  return hash;
}

void CodeMaker::KeepReport(const std::string& hash, std::string_view report) {
  auto kernels = toolchain::ParseResources(report);
  if (!kernels.empty()) resources_[hash] = std::move(kernels);
}

const std::vector<toolchain::KernelResources>& CodeMaker::ResourcesOf(const std::string& hash) const {
  static const std::vector<toolchain::KernelResources> none;
  const auto found = resources_.find(hash);
  return found == resources_.end() ? none : found->second;
}

std::vector<std::string> CodeMaker::Make(std::span<const Source> sources, const MakeOptions& options) {
  if (sources.empty()) return {};
  const double start = sys::MonotonicSeconds();
  std::map<std::string_view, std::vector<size_t>> by_text;  // equal texts are one unit
  for (size_t i = 0; i < sources.size(); ++i) by_text[sources[i].text].push_back(i);
  std::vector<std::string> hashes(sources.size());
  const auto found = [&](std::string_view text, const std::string& hash) {
    for (const size_t i : by_text.at(text)) {
      hashes[i] = hash;
      if (options.made) options.made(i, hash);
    }
  };
  std::vector<toolchain::Unit> units;
  std::vector<store::Key> keys;
  for (size_t i = 0; i < sources.size(); ++i) {
    const Source& source = sources[i];
    if (by_text.at(source.text).front() != i) continue;
    store::Key key = KeyOf(source.text);
    if (auto hash = FindCode(key)) {
      found(source.text, *hash);
      ++found_;
      continue;
    }
    units.push_back({.name = source.name, .source = source.text, .target = target_});
    keys.push_back(std::move(key));
  }
  if (!units.empty() && !may_compile_) {
    throw base::MakeError(
        base::ErrorKind::kWouldCompile,
        "{} kernels would have to be compiled for {}, {} the first of them, and compiling is "
        "forbidden; run once without --forbid-compile",
        units.size(), target_, units.front().name);
  }
  if (!units.empty()) {
    base::Detail("compiling {} units for {}", units.size(), target_);
    std::optional<base::Progress> progress;
    if (options.shows_progress) progress.emplace("compiling", static_cast<int64_t>(units.size()));
    // Kept as they come: who stops a long build goes on from there.
    const auto keep = [&](size_t i, const toolchain::CompiledUnit& unit) {
      const std::string hash = store_.PutCode(unit.image);
      store_.Put(EntryKind::kCompile, keys[i], unit.report.empty() ? hash : hash + "\n" + unit.report);
      KeepReport(hash, unit.report);
      found(units[i].source, hash);
      if (!progress) return;
      progress->SetNote(unit.name);
      progress->Advance();
    };
    const int jobs = jobs_ > 0 ? jobs_ : sys::AvailableThreads();
    Compiler().Compile(units, {.jobs = std::max(1, jobs - options.spared), .on_compiled = keep});
    compiled_ += static_cast<int64_t>(units.size());
  }
  seconds_ += sys::MonotonicSeconds() - start;
  return hashes;
}

}  // namespace preheat::compile
