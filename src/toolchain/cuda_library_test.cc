#include "toolchain/cuda_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "sys/env.h"

namespace preheat::toolchain {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

TEST(CudaLibrary, AFileThatIsNamedIsAllThatIsTried) {
  ::setenv("PREHEAT_TEST_LIBRARY", "/a/libx.so.1", 1);
  EXPECT_THAT(CudaLibraryNames("PREHEAT_TEST_LIBRARY", "libx"), ElementsAre("/a/libx.so.1"));
  ::unsetenv("PREHEAT_TEST_LIBRARY");
}

TEST(CudaLibrary, TheLoadersOwnSearchComesFirstThenToolkitsAndPip) {
  const sys::UniqueTempDir folder("cuda-library");
  const std::filesystem::path root = folder.path();
  const auto make = [&](const std::string& name) {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name) << "x";
    return (root / name).string();
  };
  const std::string toolkit = make("cuda/lib64/libx.so.12");
  const std::string pip = make("env/lib/python3.11/site-packages/nvidia/x/lib/libx.so.12");
  ::setenv("CUDA_HOME", (root / "cuda").c_str(), 1);
  ::setenv("VIRTUAL_ENV", (root / "env").c_str(), 1);
  const std::vector<std::string> names = CudaLibraryNames("PREHEAT_TEST_LIBRARY", "libx");
  ::unsetenv("CUDA_HOME");
  ::unsetenv("VIRTUAL_ENV");
  EXPECT_EQ(names.front(), "libx.so.13");
  EXPECT_THAT(names, Contains(toolkit));
  EXPECT_THAT(names, Contains(pip));
}

}  // namespace
}  // namespace preheat::toolchain
