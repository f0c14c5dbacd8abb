#include "codegen/cuda/nvrtc_for_test.h"

#include <cstdio>
#include <sstream>
#include <utility>

#include "base/check.h"

namespace preheat::codegen::cuda {
namespace {

// nvrtc.h: nvrtcResult 0 is success; a program is an opaque pointer.
using Program = void*;
using Create = int (*)(Program*, const char* source, const char* name, int, const char* const*,
                       const char* const*);
using CompileProgram = int (*)(Program, int option_count, const char* const* options);
using GetSize = int (*)(Program, size_t*);
using GetBytes = int (*)(Program, char*);
using Destroy = int (*)(Program*);

// What the assembler says of each kernel (-v) goes to the kernels, anything else to the messages.
void ReadLog(const std::string& log, CudaReport& report) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    char name[512];
    int stack = 0, stored = 0, loaded = 0, registers = 0;
    if (std::sscanf(line.c_str(), "ptxas info : Compiling entry function '%511[^']'", name) == 1) {
      report.kernels.push_back({.name = name});
    } else if (std::sscanf(line.c_str(),
                           "ptxas . %d bytes stack frame, %d bytes spill stores, %d bytes spill loads",
                           &stack, &stored, &loaded) == 3) {
      if (report.kernels.empty()) continue;
      report.kernels.back().stack_bytes += stack;
      report.kernels.back().spilled_bytes += stored + loaded;
    } else if (std::sscanf(line.c_str(), "ptxas info : Used %d registers", &registers) == 1) {
      if (!report.kernels.empty()) report.kernels.back().registers = registers;
    } else if ((!line.starts_with("ptxas info") || line.find("(C75") != std::string::npos) &&
               line.find_first_not_of(" \n") != std::string::npos) {
      report.messages += line + "\n";
    }
  }
}

}  // namespace

const CudaReport::Kernel* CudaReport::Find(const std::string& name) const {
  for (const Kernel& kernel : kernels) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

NvrtcForTest::NvrtcForTest(sys::DynamicLibrary library) : library_(std::move(library)) {}

std::optional<NvrtcForTest> NvrtcForTest::Open(std::string& reason) {
  auto library =
      sys::DynamicLibrary::Open({"libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so.13",
                                 "/usr/local/cuda/lib64/libnvrtc.so.12"},
                                &reason);
  if (!library) return std::nullopt;
  library->KeepOpen();  // it starts threads
  return NvrtcForTest(*std::move(library));
}

CudaReport NvrtcForTest::Compile(const std::string& source, const std::string& arch) const {
  const auto text_of = [&](Program program, const char* size_name, const char* get_name) {
    size_t size = 0;
    CHECK(library_.Symbol<GetSize>(size_name)(program, &size) == 0);
    std::string text(size, '\0');
    if (size > 0) CHECK(library_.Symbol<GetBytes>(get_name)(program, text.data()) == 0);
    return text;
  };
  Program program = nullptr;
  CHECK(library_.Symbol<Create>("nvrtcCreateProgram")(&program, source.c_str(), "unit.cu", 0, nullptr,
                                                      nullptr) == 0);
  const std::string target = "--gpu-architecture=" + arch;
  // 177: an unused function; units carry the whole machine.
  const char* options[] = {target.c_str(), "--std=c++17", "--diag-suppress=177", "--ptxas-options=-v"};
  CudaReport report;
  report.compiled = library_.Symbol<CompileProgram>("nvrtcCompileProgram")(program, 4, options) == 0;
  std::string log = text_of(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
  ReadLog(log.substr(0, log.find('\0')), report);
  if (report.compiled) report.cubin = text_of(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN");
  library_.Symbol<Destroy>("nvrtcDestroyProgram")(&program);
  return report;
}

}  // namespace preheat::codegen::cuda
