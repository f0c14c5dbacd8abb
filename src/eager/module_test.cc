// The module as a whole: found or not, what it keeps, how it reports what failed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "eager/kernels_for_test.h"

namespace preheat::eager {
namespace {

#ifdef PREHEAT_EAGER_WITHOUT_MODULE
TEST(Eager, WithoutOneDnnItSaysWhatToInstall) {
  try {
    Module::Open();
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), testing::HasSubstr("libdnnl"));
  }
}
#else
TEST(Module, PackedWeightsAreKeptUntilReleased) {
  TheModule().ReleaseWeights();
  EXPECT_EQ(TheModule().PackedBytes(), 0);
  Data x = Random(DType::kF32, 1, 64, 1), weight = Weight(Random(DType::kF32, 64, 64, 2)),
       y(DType::kF32, 1, 64);
  Launch("linear", {&y, &x, &weight}, {}, {});
  const int64_t packed = TheModule().PackedBytes();
  EXPECT_GE(packed, 64 * 64 * 4);
  const auto first = y.Get();
  Launch("linear", {&y, &x, &weight}, {}, {});
  EXPECT_EQ(TheModule().PackedBytes(), packed);
  EXPECT_EQ(y.Get(), first);
  TheModule().ReleaseWeights();
  EXPECT_EQ(TheModule().PackedBytes(), 0);
}

TEST(Module, AFailureIsThrownOnceAndStopsTheStep) {
  Data x = Random(DType::kF32, 1, 4, 1), y(DType::kF32, 1, 4);
  TheModule().SetProbe(
      [](const float*, int64_t, int64_t) { throw std::runtime_error("no room to show it"); });
  try {
    Launch("probe", {&y, &x}, {}, {});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kToolFailed);
    EXPECT_THAT(error.message(), testing::HasSubstr("no room to show it"));
  }
  TheModule().SetProbe(nullptr);
  EXPECT_NO_THROW(TheModule().ThrowIfFailed());
}

TEST(Module, NamesItsLibrary) {
  EXPECT_THAT(TheModule().Identity(), testing::StartsWith("oneDNN "));
}

TEST(Module, UnknownKernelsAndLibrariesAreUnsupported) {
  for (const auto& [library, entry] :
       {std::pair{"library:eager", "matmul"}, std::pair{"library:cublas", "linear"}}) {
    try {
      TheModule().Resolve(library, entry);
      FAIL();
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
      EXPECT_THAT(error.message(), testing::HasSubstr(entry));
    }
  }
  EXPECT_NE(TheModule().Resolve("eager", "linear"), nullptr);
}
#endif

TEST(Module, MissingModuleSaysWhatToInstall) {
  try {
    Module::OpenFrom({"/nonexistent/libpreheat_eager.so"});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kUnsupported);
    EXPECT_THAT(error.message(), testing::HasSubstr("/nonexistent/libpreheat_eager.so"));
    EXPECT_THAT(error.message(), testing::HasSubstr("install libdnnl2"));
  }
}

TEST(Module, AnotherLibraryIsIncompatible) {
  try {
    Module::OpenFrom({"libm.so.6"});
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::kIncompatible);
  }
}

}  // namespace
}  // namespace preheat::eager
