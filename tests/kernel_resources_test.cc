// What the kernels of a real shape take of a card, as NVRTC reports it: a register that spills in a kernel
// that every token goes through costs more than any other fault here, and no test of results sees it.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "base/error.h"
#include "checkpoint/synth.h"
#include "compile/compiler.h"
#include "sys/code_image.h"
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
    // Kernels of warpgroups with roles share their registers out anew when they begin: what must be kept from
    // before is spilled once, outside of all loops.
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

// A card that comes later may have less shared memory than one of its PTX's own capability, and has none of
// its architecture's own instructions.
TEST(Ptx, OfA3bModelAsksForNoMoreThanEveryCardHas) {
  std::unique_ptr<toolchain::Nvrtc> nvrtc;
  try {
    nvrtc = std::make_unique<toolchain::Nvrtc>(toolchain::Nvrtc::Find());
  } catch (const base::Error& error) {
    GTEST_SKIP() << "[SKIP] " << error.message();
  }
  constexpr int64_t kLeastShared = 99 << 10;
  const checkpoint::ModelConfig config = checkpoint::SynthShape("llama-3.2-3b");
  for (const std::string target : {"compute_80", "compute_90", "compute_100", "compute_120"}) {
    store::Store store = store::Store::InMemory();
    compile::Compiler compiler(store, {.config = config,
                                       .family = {.config_hash = checkpoint::ConfigHash(config),
                                                  .weight_dtype = "bfloat16",
                                                  .dtype = "bfloat16",
                                                  .mode = "default",
                                                  .target = target},
                                       .compiler = nvrtc.get()});
    const std::vector<StepSpec> steps = {StepSpec::Decode(), StepSpec::Bucket(1024), StepSpec::AnyLength()};
    for (const program::Program& program : compiler.Compile(steps)) {
      for (const program::Segment& segment : program.segments) {
        for (const program::Launch& launch : segment.launches) {
          EXPECT_LE(launch.blocks.shared_bytes, kLeastShared)
              << target << " " << program.name << " " << launch.region;
          EXPECT_EQ(launch.blocks.cluster, 0) << launch.region;
          EXPECT_TRUE(launch.tensor_maps.empty()) << launch.region;
        }
      }
      for (const std::string& hash : program::CodeHashes(program)) {
        const auto code = store.Get(store::EntryKind::kCode, hash);
        const sys::CodeImageView image = sys::ParseCodeImage(code->span());
        const std::string_view text(reinterpret_cast<const char*>(image.body.data()), image.body.size());
        EXPECT_NE(text.find("\n.target sm_" + target.substr(8) + "\n"), std::string_view::npos) << target;
      }
    }
    EXPECT_TRUE(compiler.report().resources.empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelResources, ::testing::Values("sm_90a", "sm_80"),
                         [](const auto& subject) { return std::string(subject.param); });

}  // namespace
}  // namespace preheat::testing
