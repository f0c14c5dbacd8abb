#include "toolchain/nvrtc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "base/error_for_test.h"
#include "sys/code_image.h"

namespace preheat::toolchain {
namespace {

using base::Complaint;
using base::ErrorKind;
using ::testing::AllOf;
using ::testing::HasSubstr;

Nvrtc Find(const char* file) {
  ::setenv("PREHEAT_NVRTC", file, 1);
  return Nvrtc::Find();
}

TEST(Nvrtc, WhereItWasSoughtIsSaid) {
  EXPECT_THAT(Complaint([] { Find("/no/libnvrtc.so"); }, ErrorKind::kNotFound),
              AllOf(HasSubstr("nvidia-cuda-nvrtc, or set PREHEAT_NVRTC to its libnvrtc.so"),
                    HasSubstr("looked in that file alone: /no/libnvrtc.so: ")));
}

TEST(Nvrtc, AnotherLibraryIsRefusedWithWhatItLacks) {
  EXPECT_THAT(Complaint([] { Find("libm.so.6"); }, ErrorKind::kUnsupported),
              HasSubstr("libm.so.6: NVRTC 0.0, without nvrtcVersion, and at least version 12"));
}

// The fake makes "code" that names the last architecture that it was told.
TEST(Nvrtc, ExtraFlagsComeAfterOurs) {
  const std::vector<CompiledUnit> compiled =
      Find(PREHEAT_FAKE_NVRTC)
          .Compile({{.name = "unit", .source = "\nKERNEL(nothing, 1)", .target = "sm_80"}},
                   {.jobs = 1, .extra_flags = {"--gpu-architecture=sm_86"}});
  const sys::CodeImageView image = sys::ParseCodeImage(compiled.front().image);
  EXPECT_EQ(image.target, "sm_80");
  EXPECT_STREQ(reinterpret_cast<const char*>(image.body.data()), "sm_86");
}

std::string BodyOf(const sys::CodeImageView& image) {
  return {reinterpret_cast<const char*>(image.body.data()), image.body.size()};
}

TEST(Nvrtc, OfAVirtualArchitectureItKeepsThePtxWhichEndsWithANul) {
  const Nvrtc nvrtc = Find(PREHEAT_FAKE_NVRTC);
  EXPECT_EQ(nvrtc.FlagsText("compute_90"),
            "--gpu-architecture=compute_90 -std=c++17 -default-device --no-cache");
  const CompiledUnit compiled =
      nvrtc
          .Compile(
              {{.name = "unit", .source = "\nKERNEL(second, 1)\nKERNEL(first, 1)", .target = "compute_90"}},
              {.jobs = 1})
          .front();
  EXPECT_THAT(ParseResources(compiled.report), ::testing::IsEmpty());
  const sys::CodeImageView image = sys::ParseCodeImage(compiled.image);
  EXPECT_EQ(image.target, "compute_90");
  ASSERT_EQ(image.entries.size(), 2u);
  EXPECT_EQ(image.entries[0].name, "first");
  EXPECT_EQ(image.entries[1].name, "second");
  const std::string body = BodyOf(image);
  EXPECT_TRUE(body.starts_with(".version 9.0\n.target sm_90\n")) << body;
  EXPECT_EQ(body.find('\0'), body.size() - 1);
}

TEST(Nvrtc, KernelsOfPtxAreThoseThatItDefines) {
  EXPECT_THAT(PtxEntries("// .globl a\n\n.visible .entry a(\n.param .b64 p\n)\n{ ret; }\n"
                         ".visible .func (.param .b32 r) no_kernel()\n.visible .entry b_2()\n"),
              ::testing::ElementsAre("a", "b_2"));
  EXPECT_THAT(PtxEntries(".version 9.0\n"), ::testing::IsEmpty());
}

TEST(Nvrtc, PtxWithoutAKernelIsAnError) {
  EXPECT_THAT(Complaint(
                  [] {
                    Find(PREHEAT_FAKE_NVRTC)
                        .Compile({{.name = "unit", .source = "nothing", .target = "compute_80"}},
                                 {.jobs = 1});
                  },
                  ErrorKind::kToolFailed),
              HasSubstr("compiling unit for compute_80 failed: its PTX has no kernel"));
}

// The library that this machine has.
TEST(Nvrtc, TheRealOneMakesPtxOfEachVirtualArchitecture) {
  ::unsetenv("PREHEAT_NVRTC");
  std::optional<Nvrtc> nvrtc;
  try {
    nvrtc = Nvrtc::Find();
  } catch (const base::Error& error) {
    GTEST_SKIP() << "[SKIP] " << error.message();
  }
  for (const std::string target : {"compute_80", "compute_90", "compute_100", "compute_120"}) {
    const CompiledUnit compiled =
        nvrtc
            ->Compile({{.name = "unit",
                        .source = "extern \"C\" __global__ void twice(float* x) { x[0] *= 2; }\n"
                                  "extern \"C\" __global__ void __launch_bounds__(32) again(float* x) "
                                  "{ x[1] = __CUDA_ARCH__; }\n",
                        .target = target}},
                      {.jobs = 1})
            .front();
    const sys::CodeImageView image = sys::ParseCodeImage(compiled.image);
    ASSERT_EQ(image.entries.size(), 2u) << target;
    EXPECT_EQ(image.entries[0].name, "again");
    EXPECT_EQ(image.entries[1].name, "twice");
    const std::string body = BodyOf(image);
    EXPECT_THAT(body, HasSubstr("\n.target sm_" + target.substr(8) + "\n"));
    EXPECT_EQ(body.find('\0'), body.size() - 1);
  }
}

}  // namespace
}  // namespace preheat::toolchain
