#include "toolchain/object_image.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "sys/env.h"
#include "sys/files.h"
#include "sys/process.h"

namespace preheat::toolchain {
namespace {

std::string MakeObject() {
  const sys::UniqueTempDir folder;
  sys::SpawnOptions options;
  options.stdin_bytes = R"(static const float kTable[4] = {1, 2, 3, 4};
      extern "C" float f(long i) { return kTable[i & 3] * 1.5f; })";
  const auto result = sys::Spawn({"c++", "-O1", "-ffreestanding", "-fPIC", "-fno-asynchronous-unwind-tables",
                                  "-x", "c++", "-c", "-", "-o", folder.File("a.o")},
                                 options);
  if (!result.ok()) return "";
  return sys::ReadFile(folder.File("a.o"));
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(ObjectImage, AnythingButAnObjectIsRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("hello"), std::string(64, '\0'), std::string(4096, 'x')}) {
    EXPECT_THROW(ImageFromObject(AsBytes(bytes), "x86-64-v3"), base::Error);
  }
}

// Compilers do not make damaged objects, but a full disk does.
TEST(ObjectImage, DamagedObjectsNeverReadOutOfBounds) {
  const std::string object = MakeObject();
  if (object.empty()) GTEST_SKIP() << "[SKIP] no C++ compiler";
  EXPECT_EQ(ImageFromObject(AsBytes(object), "t").entries.at(0).name, "f");
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (size_t size = 0; size < object.size(); size += 7) {
    try {
      ImageFromObject(AsBytes(object).first(size), "t");
    } catch (const base::Error&) {
    }
  }
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = object;
    for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      ImageFromObject(AsBytes(damaged), "t");
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::kToolFailed);
    }
  }
}

}  // namespace
}  // namespace preheat::toolchain
