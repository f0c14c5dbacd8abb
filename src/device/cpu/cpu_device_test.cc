#include "device/cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "device/null/null_device.h"
#include "sys/code_image.h"
#include "sys/cpu.h"

namespace preheat::device {
namespace {

using base::Error;
using base::ErrorKind;

// void store42(args, begin, end, scratch) { *(int*)scratch = 42; }: mov dword [rcx], 42; ret
constexpr uint8_t kStore42[] = {0xc7, 0x01, 42, 0, 0, 0, 0xc3};

std::vector<std::byte> Image(const std::string& target, const std::string& name, int nops = 0) {
  sys::CodeImage image;
  image.target = target;
  image.entries = {{name, static_cast<uint32_t>(nops)}};
  image.body.resize(static_cast<size_t>(nops), std::byte{0xcc});
  for (const uint8_t byte : kStore42) image.body.push_back(static_cast<std::byte>(byte));
  return sys::SerializeCodeImage(image);
}

TEST(CpuDevice, LoadsSeveralImagesAndRunsTheirKernels) {
  CpuDevice device({.threads = 1});
  if (device.Targets().empty()) GTEST_SKIP() << "[SKIP] this CPU is below x86-64-v3";
  const auto first = Image("x86-64-v3", "a");
  const auto second = Image("x86-64-v3", "b", 100);
  const std::span<const std::byte> images[] = {first, second};
  const auto module = device.LoadCode(images);
  int out = 0;
  module->Entry(1, "b").host(nullptr, 0, 1, &out);
  EXPECT_EQ(out, 42);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(module->Entry(0, "a").host) % 64, 0u);
  for (const auto& [image, name] : {std::pair(0, "b"), std::pair(1, "a"), std::pair(2, "a")}) {
    try {
      module->Entry(static_cast<size_t>(image), name);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    }
  }
}

TEST(CpuDevice, NoImagesIsFine) {
  CpuDevice device({.threads = 1});
  EXPECT_NE(device.LoadCode({}), nullptr);
}

TEST(CpuDevice, CodeForAnUnknownTargetIsRefused) {
  CpuDevice device({.threads = 1});
  const auto bytes = Image("x86-64-v9", "a");
  const std::span<const std::byte> images[] = {bytes};
  try {
    device.LoadCode(images);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_NE(error.message().find("x86-64-v9"), std::string::npos);
  }
}

TEST(CpuDevice, MalformedCodeIsCorrupt) {
  CpuDevice device({.threads = 1});
  const std::vector<std::byte> bytes(100, std::byte{1});
  const std::span<const std::byte> images[] = {bytes};
  EXPECT_THROW(device.LoadCode(images), Error);
}

TEST(CpuDevice, TargetsAreThoseThatTheCheckAccepts) {
  CpuDevice device({.threads = 1});
  const auto targets = device.Targets();
  for (const char* target : {"x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3"}) {
    const bool listed = std::ranges::find(targets, target) != targets.end();
    if (listed) {
      EXPECT_NO_THROW(device.CheckTarget(target));
    } else {
      EXPECT_THROW(device.CheckTarget(target), Error);
    }
  }
}

TEST(CpuDevice, MissingFeatureIsNamed) {
  sys::CpuFeatures none;
  try {
    CheckCpuTarget("x86-64-v3", none);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIncompatible);
    EXPECT_NE(error.message().find("lacks AVX2"), std::string::npos) << error.message();
  }
}

TEST(CpuDevice, MemoryIsZeroedAlignedAndFreed) {
  CpuDevice device({.threads = 1});
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{5} << 20}) {
    Buffer buffer = device.Allocate(size);
    ASSERT_EQ(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0u);
    EXPECT_EQ(buffer.data()[size - 1], std::byte{0});
    buffer.data()[size - 1] = std::byte{1};
    Buffer moved = std::move(buffer);
    EXPECT_EQ(moved.data()[size - 1], std::byte{1});
  }
  EXPECT_EQ(device.Allocate(0).data(), nullptr);
}

TEST(CpuDevice, TooMuchMemoryIsAnError) {
  CpuDevice device({.threads = 1});
  try {
    device.Allocate(size_t{1} << 60);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDevice);
  }
}

TEST(NullDevice, RecordsLaunchesAndRunsNothing) {
  NullDevice device;
  const auto bytes = Image("x86-64-v4", "a");
  const std::span<const std::byte> images[] = {bytes};
  const auto module = device.LoadCode(images);
  Launch launch;
  launch.kernel = module->Entry(0, "a");
  launch.tiles = 7;
  EXPECT_THROW(module->Entry(0, "b"), Error);
  device.ReserveScratch(64);
  device.Run(std::span(&launch, 1));
  device.Run(std::span(&launch, 1));
  EXPECT_EQ(device.runs(), 2);
  ASSERT_EQ(device.launches().size(), 2u);
  EXPECT_EQ(device.launches()[0].kernel, launch.kernel);
  EXPECT_EQ(device.launches()[1].tiles, 7);
  EXPECT_EQ(device.scratch_bytes(), 64u);
}

}  // namespace
}  // namespace preheat::device
