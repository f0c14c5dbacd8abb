#include "toolchain/nvrtc.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "sys/clock.h"
#include "sys/code_image.h"
#include "toolchain/cuda_library.h"
#include "toolchain/unit_jobs.h"

namespace preheat::toolchain {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr int kOldestMajor = 12;  // the first with all of our targets' instructions
constexpr size_t kShownLines = 30;

// The number after `label` in `line`; 0 where there is none.
int64_t NumberBefore(std::string_view line, std::string_view label) {
  const size_t at = line.find(label);
  if (at == std::string_view::npos) return 0;
  size_t end = at;
  while (end > 0 && line[end - 1] == ' ') --end;
  size_t begin = end;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  int64_t number = 0;
  std::from_chars(line.data() + begin, line.data() + end, number);
  return number;
}

}  // namespace

struct Nvrtc::Functions {
  using Program = void*;
  int (*version)(int* major, int* minor);
  const char* (*error_text)(int result);
  int (*create)(Program* program, const char* source, const char* name, int headers,
                const char* const* header_texts, const char* const* header_names);
  int (*destroy)(Program* program);
  int (*compile)(Program program, int options, const char* const* texts);
  int (*log_size)(Program program, size_t* size);
  int (*log)(Program program, char* text);
  int (*cubin_size)(Program program, size_t* size);
  int (*cubin)(Program program, char* bytes);
  int (*ptx_size)(Program program, size_t* size);
  int (*ptx)(Program program, char* text);
};

bool IsNvrtcTarget(std::string_view target) {
  return target.starts_with("sm_") || sys::IsPtxTarget(target);
}

// ptxas info    : Compiling entry function 'matmul' for 'sm_90a'
// ptxas info    : Function properties for matmul
//     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
// ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem
std::vector<KernelResources> ParseResources(std::string_view report) {
  std::vector<KernelResources> kernels;
  while (!report.empty()) {
    const size_t end = std::min(report.find('\n'), report.size());
    const std::string_view line = report.substr(0, end);
    report.remove_prefix(std::min(end + 1, report.size()));
    constexpr std::string_view kEntry = "Compiling entry function '";
    if (const size_t at = line.find(kEntry); at != std::string_view::npos) {
      const std::string_view name = line.substr(at + kEntry.size());
      kernels.push_back({.entry = std::string(name.substr(0, name.find('\'')))});
    }
    if (kernels.empty()) continue;
    kernels.back().stack_bytes += NumberBefore(line, "bytes stack frame");
    kernels.back().spill_bytes +=
        NumberBefore(line, "bytes spill stores") + NumberBefore(line, "bytes spill loads");
    if (line.find("Used ") == std::string_view::npos) continue;
    kernels.back().registers = static_cast<int>(NumberBefore(line, "registers"));
    kernels.back().shared_bytes = NumberBefore(line, "bytes smem");
  }
  return kernels;
}

// .visible .entry matmul(
std::vector<std::string> PtxEntries(std::string_view ptx) {
  constexpr std::string_view kEntry = "\n.visible .entry ";
  std::vector<std::string> names;
  for (size_t at = 0; (at = ptx.find(kEntry, at)) != std::string_view::npos;) {
    at += kEntry.size();
    names.emplace_back(ptx.substr(at, ptx.find_first_of("( \n", at) - at));
  }
  return names;
}

Nvrtc::Nvrtc(sys::DynamicLibrary library, std::shared_ptr<const Functions> functions, int major, int minor)
    : library_(std::move(library)), functions_(std::move(functions)), major_(major), minor_(minor) {}

Nvrtc Nvrtc::Find() {
  sys::DynamicLibrary library = OpenCudaLibrary({.what = "NVRTC, which compiles for NVIDIA GPUs",
                                                 .stem = "libnvrtc",
                                                 .package = "nvidia-cuda-nvrtc",
                                                 .variable = "PREHEAT_NVRTC"});
  auto functions = std::make_shared<Functions>();
  sys::SymbolFinder find(library);
  find(functions->version, "nvrtcVersion");
  find(functions->error_text, "nvrtcGetErrorString");
  find(functions->create, "nvrtcCreateProgram");
  find(functions->destroy, "nvrtcDestroyProgram");
  find(functions->compile, "nvrtcCompileProgram");
  find(functions->log_size, "nvrtcGetProgramLogSize");
  find(functions->log, "nvrtcGetProgramLog");
  find(functions->cubin_size, "nvrtcGetCUBINSize");
  find(functions->cubin, "nvrtcGetCUBIN");
  find(functions->ptx_size, "nvrtcGetPTXSize");
  find(functions->ptx, "nvrtcGetPTX");
  int major = 0, minor = 0;
  if (functions->version != nullptr) functions->version(&major, &minor);
  if (!find.found_all() || major < kOldestMajor) {
    throw MakeError(ErrorKind::kUnsupported,
                    "{}: NVRTC {}.{}{}, and at least version {} is needed; install a newer one",
                    library.name(), major, minor, find.WithoutText(), kOldestMajor);
  }
  library.KeepOpen();  // it has threads and exit handlers of its own
  return Nvrtc(std::move(library), std::move(functions), major, minor);
}

std::string Nvrtc::Identity() const {
  return fmt::format("NVRTC {}.{}", major_, minor_);
}

std::string Nvrtc::FlagsText(std::string_view target) const {
  if (!IsNvrtcTarget(target)) throw MakeError(ErrorKind::kInvalidArgument, "{}: no target of NVRTC", target);
  // Its own cache on disk, since 12.9, gives code without a report; and we have a store.
  const bool caches = major_ > 12 || (major_ == 12 && minor_ >= 9);
  return fmt::format("--gpu-architecture={} -std=c++17 -default-device{}{}", target,
                     sys::IsPtxTarget(target) ? "" : " --ptxas-options=-v", caches ? " --no-cache" : "");
}

CompiledUnit Nvrtc::CompileOne(const Unit& unit, const CompileOptions& options) const {
  const double start = sys::MonotonicSeconds();
  const Functions& call = *functions_;
  std::string log;
  const auto fail = [&](std::string_view how) {
    throw MakeError(ErrorKind::kToolFailed, "compiling {} for {} failed: {}\n{}{}", unit.name, unit.target,
                    how, FirstLines(log, kShownLines), KeepSource(unit, options, ".cu"));
  };
  const auto check = [&](int result) {
    if (result != 0) fail(call.error_text(result));
  };
  struct Owned {
    const Functions& call;
    Functions::Program program = nullptr;
    ~Owned() {
      if (program != nullptr) call.destroy(&program);
    }
  } owned{call};
  check(call.create(&owned.program, unit.source.c_str(), (unit.name + ".cu").c_str(), 0, nullptr, nullptr));

  std::vector<std::string> words = SplitAtBlanks(FlagsText(unit.target));
  words.insert(words.end(), options.extra_flags.begin(), options.extra_flags.end());
  std::vector<const char*> texts;
  for (const std::string& word : words) texts.push_back(word.c_str());
  const int result = call.compile(owned.program, static_cast<int>(texts.size()), texts.data());
  size_t size = 0;
  if (call.log_size(owned.program, &size) == 0 && size > 1) {
    log.resize(size);
    call.log(owned.program, log.data());
    log.resize(std::min(log.find('\0'), size));
  }
  check(result);
  sys::CodeImage image;
  image.target = unit.target;
  const bool ptx = sys::IsPtxTarget(unit.target);
  check((ptx ? call.ptx_size : call.cubin_size)(owned.program, &size));
  if (size == 0) fail("it made no machine code: the target is unknown to it");
  image.body.resize(size);
  char* const body = reinterpret_cast<char*>(image.body.data());
  check((ptx ? call.ptx : call.cubin)(owned.program, body));
  if (ptx) {
    if (body[size - 1] != '\0') fail("its PTX has no end");  // which the driver reads up to
    for (std::string& name : PtxEntries({body, size - 1})) image.entries.push_back({std::move(name), 0});
  } else {
    for (const KernelResources& kernel : ParseResources(log)) image.entries.push_back({kernel.entry, 0});
  }
  if (image.entries.empty()) fail(ptx ? "its PTX has no kernel" : "its report names no kernel");
  std::ranges::sort(image.entries, {}, &sys::CodeEntry::name);
  return {unit.name, sys::SerializeCodeImage(image), sys::MonotonicSeconds() - start, log};
}

std::vector<CompiledUnit> Nvrtc::Compile(const std::vector<Unit>& units,
                                         const CompileOptions& options) const {
  for (const Unit& unit : units) FlagsText(unit.target);  // unknown: throws before anything is compiled
  return CompileSideBySide(units, options,
                           [&](const Unit& unit, size_t) { return CompileOne(unit, options); });
}

}  // namespace preheat::toolchain
