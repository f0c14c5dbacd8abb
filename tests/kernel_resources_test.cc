// What the kernels of a real shape take of a card, as NVRTC reports it: a register that spills in a kernel
// that every token goes through costs more than any other fault here, and no test of results sees it.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "base/error.h"
#include "checkpoint/synth.h"
#include "compile/compiler.h"
#include "toolchain/nvrtc.h"

namespace preheat::testing {
namespace {

using preload::StepSpec;

class KernelResources : public ::testing::TestWithParam<const char*> {};

TEST_P(KernelResources, NoKernelOfA3bModelSpills) {
  std::unique_ptr<toolchain::Nvrtc> nvrtc;
  try {
    nvrtc = std::make_unique<toolchain::Nvrtc>(toolchain::Nvrtc::Find());
  } catch (const base::Error& error) {
    GTEST_SKIP() << "[SKIP] " << error.message();
  }
  store::Store store = store::Store::InMemory();
  const checkpoint::ModelConfig config = checkpoint::SynthShape("llama-3.2-3b");
  compile::Compiler compiler(store, {.config = config,
                                     .family = {.config_hash = checkpoint::ConfigHash(config),
                                                .weight_dtype = "bfloat16",
                                                .dtype = "bfloat16",
                                                .mode = "default",
                                                .target = GetParam()},
                                     .compiler = nvrtc.get()});
  // A bucket's schedules are those of its length; the texts that they share are compiled once.
  const std::vector<StepSpec> steps = {StepSpec::Decode(),    StepSpec::Bucket(128),  StepSpec::Bucket(256),
                                       StepSpec::Bucket(512), StepSpec::Bucket(1024), StepSpec::AnyLength()};
  compiler.Compile(steps);

  std::set<std::string> seen;
  for (const compile::RegionResources& kernel : compiler.report().resources) {
    const std::string name = kernel.step + " " + kernel.region + "." + kernel.kernel.entry;
    EXPECT_GT(kernel.kernel.registers, 0) << name;
    seen.insert(kernel.step + " " + kernel.region);
    // Kernels of warpgroups with roles share their registers out anew when they begin: what must be kept from before is
    // spilled once, outside of all loops.
    constexpr int64_t kBeforeRoles = 96;
    const bool has_roles = GetParam() == std::string_view("sm_90a") && kernel.step != "decode";
    EXPECT_LE(kernel.kernel.spill_bytes, has_roles ? kBeforeRoles : 0)
        << name << " with " << kernel.kernel.registers << " registers";
  }
  for (const StepSpec& step : steps) {
    if (seen.contains(step.Name() + " step")) continue;  // one kernel of all regions
    for (const char* region : {"qkv", "attention", "attention_output", "gate_up", "down", "head"}) {
      EXPECT_TRUE(seen.contains(step.Name() + " " + region)) << step.Name() << " " << region;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelResources, ::testing::Values("sm_90a", "sm_80"),
                         [](const auto& subject) { return std::string(subject.param); });

}  // namespace
}  // namespace preheat::testing
