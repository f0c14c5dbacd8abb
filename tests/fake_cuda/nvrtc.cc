// An NVRTC that makes no machine code: a "cubin" that the fake driver beside it takes, and the report of
// kernels that a real one gives; for a virtual architecture PTX of kernels that do nothing, and no report.
// With it artifacts for cards are built where no CUDA toolkit is.
//
// $FAKE_NVRTC_SPILL_BYTES: what its report says that every kernel spills.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Program {
  std::string source{};
  std::string target = "sm_80";
  std::string log{};
};

// The names behind the words that begin kernels (codegen/cuda/machine.cc), but for the words' definition.
std::vector<std::string> KernelsOf(const Program& program) {
  std::vector<std::string> names;
  const std::string begin = "\nKERNEL(";
  for (size_t at = 0; (at = program.source.find(begin, at)) != std::string::npos;) {
    at += begin.size();
    names.push_back(program.source.substr(at, program.source.find(',', at) - at));
  }
  return names;
}

bool MakesPtx(const Program& program) {
  return program.target.starts_with("compute_");
}

std::string Ptx(const Program& program) {
  std::string text =
      ".version 9.0\n.target sm_" + program.target.substr(std::strlen("compute_")) + "\n.address_size 64\n";
  for (const std::string& name : KernelsOf(program)) text += "\n.visible .entry " + name + "(\n)\n{ ret; }\n";
  return text;
}

std::string Report(const Program& program) {
  const char* spilled = std::getenv("FAKE_NVRTC_SPILL_BYTES");
  std::string log;
  for (const std::string& name : KernelsOf(program)) {
    log += "ptxas info    : Compiling entry function '" + name + "' for '" + program.target + "'\n";
    log += "ptxas info    : Function properties for " + name + "\n    0 bytes stack frame, " +
           (spilled == nullptr ? "0" : spilled) + " bytes spill stores, 0 bytes spill loads\n";
    log += "ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem\n";
  }
  return log;
}

void Give(const std::string& text, char* to) {
  std::memcpy(to, text.c_str(), text.size() + 1);
}

}  // namespace

extern "C" {

int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return 0;
}
const char* nvrtcGetErrorString(int) {
  return "an error of the fake NVRTC";
}
int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*,
                       const char* const*) {
  *program = new Program{source};
  return 0;
}
int nvrtcDestroyProgram(void** program) {
  delete static_cast<Program*>(*program);
  return 0;
}
int nvrtcCompileProgram(void* handle, int count, const char* const* options) {
  auto& program = *static_cast<Program*>(handle);
  const std::string architecture = "--gpu-architecture=";
  for (int i = 0; i < count; ++i) {
    const std::string option = options[i];
    if (option.starts_with(architecture)) program.target = option.substr(architecture.size());
  }
  if (!MakesPtx(program)) program.log = Report(program);
  return 0;
}
int nvrtcGetProgramLogSize(void* program, size_t* size) {
  *size = static_cast<Program*>(program)->log.size() + 1;
  return 0;
}
int nvrtcGetProgramLog(void* program, char* text) {
  Give(static_cast<Program*>(program)->log, text);
  return 0;
}
// As the real one: no cubin for a virtual architecture.
int nvrtcGetCUBINSize(void* handle, size_t* size) {
  const auto& program = *static_cast<Program*>(handle);
  *size = MakesPtx(program) ? 0 : program.target.size() + 1;
  return 0;
}
int nvrtcGetCUBIN(void* program, char* bytes) {
  Give(static_cast<Program*>(program)->target, bytes);
  return 0;
}
int nvrtcGetPTXSize(void* program, size_t* size) {
  *size = Ptx(*static_cast<Program*>(program)).size() + 1;
  return 0;
}
int nvrtcGetPTX(void* program, char* text) {
  Give(Ptx(*static_cast<Program*>(program)), text);
  return 0;
}

}  // extern "C"
