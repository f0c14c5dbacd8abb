// For tests and benchmarks: a generated unit compiled by the host's compiler and loaded into this process.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "codegen/codegen.h"
#include "codegen/cpu_prelude.h"

namespace preheat::codegen {

// As toolchain::HostCompiler compiles, but with warnings, and to a shared object.
inline std::string CompileCommand(const Target& target) {
  std::string command =
      "g++ -std=c++17 -O3 -Wall -Werror -Wno-unused-function -Wno-address-of-packed-member -ffreestanding "
      "-fno-exceptions "
      "-fno-rtti -fno-asynchronous-unwind-tables -fno-stack-protector -fvisibility=hidden "
      "-fPIC -fno-math-errno -fno-trapping-math -ffp-contract=fast "
      "-fno-tree-loop-distribute-patterns -shared -nostdlib -Wl,-z,defs ";
  return command + (target.bf16_dot ? "-march=x86-64-v4 -mavx512bf16" : "-march=" + target.name);
}

inline bool RunsHere(const Target& target) {
  if (target.IsCuda()) return false;
  __builtin_cpu_init();
  if (target.bf16_dot) return __builtin_cpu_supports("avx512bf16");
  return target.vector_bytes == 64 ? __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")
                                   : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

// The targets that this processor runs.
inline std::vector<Target> TargetsHere() {
  std::vector<Target> targets;
  for (const std::string& name : TargetNames()) {
    const Target target = ParseTarget(name);
    if (RunsHere(target)) targets.push_back(target);
  }
  return targets;
}

class UnitForTest {
 public:
  UnitForTest(const std::string& source, const Target& target) {
    std::string folder = (std::filesystem::temp_directory_path() / "preheat-unit-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) return;
    std::ofstream(folder + "/unit.cc") << source;
    const std::string command =
        CompileCommand(target) + " " + folder + "/unit.cc -o " + folder + "/unit.so 2>" + folder + "/log";
    if (std::system(command.c_str()) == 0) {
      handle_ = dlopen((folder + "/unit.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (handle_ == nullptr) {
      std::ifstream log(folder + "/log");
      ADD_FAILURE() << command << "\n" << std::string(std::istreambuf_iterator<char>(log), {});
    }
    std::filesystem::remove_all(folder);
  }
  ~UnitForTest() {
    if (handle_ != nullptr) dlclose(handle_);
  }
  UnitForTest(const UnitForTest&) = delete;
  UnitForTest& operator=(const UnitForTest&) = delete;

  ph_kernel Entry(const std::string& name) const {
    return handle_ == nullptr ? nullptr : reinterpret_cast<ph_kernel>(dlsym(handle_, name.c_str()));
  }

 private:
  void* handle_ = nullptr;
};

// Memory that begins on a cache line.
template <typename T>
class AlignedArray {
 public:
  explicit AlignedArray(size_t size) : storage_(size * sizeof(T) + 64) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    data_ = reinterpret_cast<T*>(storage_.data() + (64 - address % 64) % 64);
  }
  AlignedArray(AlignedArray&&) = default;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  std::vector<std::byte> storage_;
  T* data_;
};

// Runs all tiles of a launch on this thread, in two calls, so that tiles are seen to be independent.
inline void RunLaunch(const UnitForTest& unit, const RegionLaunch& launch, std::vector<void*> operands,
                      int64_t rows, int64_t past, int64_t capacity) {
  AlignedArray<std::byte> scratch(static_cast<size_t>(launch.scratch_bytes) + 64);
  const ph_args args = {
      .operands = operands.data(), .constants = nullptr, .rows = rows, .past = past, .capacity = capacity};
  const auto& tiles = launch.tiles;
  int64_t x = 1;
  if (tiles.per == program::TileCount::Per::kRows) x = rows;
  if (tiles.per == program::TileCount::Per::kPositions) x = past + rows;
  const int64_t count = tiles.count * ((x + tiles.block - 1) / tiles.block);
  const ph_kernel kernel = unit.Entry(launch.entry);
  ASSERT_NE(kernel, nullptr) << launch.entry;
  kernel(&args, count / 2, count, scratch.data());
  kernel(&args, 0, count / 2, scratch.data());
}

// A unit's own text: the prelude has goldens of its own.
inline std::string WithoutPrelude(const std::string& source, const Target& target, Unit unit) {
  const std::string prelude = CpuPrelude(target, unit);
  EXPECT_TRUE(source.starts_with(prelude));
  return source.substr(prelude.size());
}

// Compares with testdata/codegen/NAME; with PREHEAT_UPDATE_GOLDENS=1 in the environment, writes it instead.
inline void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = std::string(PREHEAT_TESTDATA) + "/codegen/" + name;
  if (std::getenv("PREHEAT_UPDATE_GOLDENS") != nullptr) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << text;
    return;
  }
  std::ifstream file(path);
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(golden == text) << path << " differs from the generated text: look at the difference after "
                              << "PREHEAT_UPDATE_GOLDENS=1";
}

}  // namespace preheat::codegen
