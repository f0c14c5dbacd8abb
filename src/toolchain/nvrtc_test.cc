#include "toolchain/nvrtc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
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

}  // namespace
}  // namespace preheat::toolchain
