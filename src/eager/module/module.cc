// The exports of libpreheat_eager.so (eager/module_api.h).
#include "eager/module_api.h"

#include <dnnl.hpp>

#include <array>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "eager/kernel_table.h"
#include "eager/module/kernels.h"
#include "eager/module/loops.h"
#include "eager/module/parallel.h"
#include "eager/module/weights.h"

namespace preheat::eager {
namespace {

int wanted_threads = 0;
std::string error;        // of the first kernel that failed
std::string taken_error;  // what the caller of ph_module_take_error may read

std::string_view IsaName(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "other instruction set";  // the library's own list, which grows
  }
}

void Fail(std::string_view kernel, std::string_view what) {
  error = std::string(kernel) + ": " + std::string(what);
}

// A kernel as the ABI wants it: no exception leaves it; after a failure nothing runs until the error was
// taken.
template <void (*kKernel)(const ph_args&)>
void Run(const ph_args* args, int64_t tile_begin, int64_t tile_end, void*) {
  if (tile_begin >= tile_end || !error.empty()) return;
  // The number of threads belongs to the calling thread.
  if (wanted_threads > 0 && TeamSize() != wanted_threads) omp_set_num_threads(wanted_threads);
  try {
    kKernel(*args);
  } catch (const dnnl::error& e) {
    Fail("oneDNN", e.what());
  } catch (const std::bad_alloc&) {
    Fail("oneDNN module", "out of memory");
  } catch (const std::exception& e) {
    Fail("oneDNN module", e.what());
  }
}

struct Entry {
  std::string_view name;
  ph_kernel kernel;
};

constexpr std::array kEntries = {
    Entry{"embedding", Run<Embedding>},
    Entry{"rms_norm", Run<RmsNorm>},
    Entry{"linear", Run<Linear>},
    Entry{"linear_bias", Run<LinearBias>},
    Entry{"rotary", Run<Rotary>},
    Entry{"append", Run<Append>},
    Entry{"attention", Run<Attention>},
    Entry{"add", Run<Add>},
    Entry{"mul", Run<Mul>},
    Entry{"silu", Run<Silu>},
    Entry{"last_row", Run<LastRow>},
    Entry{"copy", Run<Copy>},
    Entry{"sample", Run<Sample>},
    Entry{"probe", Run<Probe>},
};

std::array<Pages, static_cast<size_t>(Scratch::kCount)>& ScratchPages() {
  static std::array<Pages, static_cast<size_t>(Scratch::kCount)> pages;
  return pages;
}

}  // namespace

// As the library's own choice, so that its DNNL_MAX_CPU_ISA holds for both.
const Loops& BestLoops() {
  static const Loops& loops = [&]() -> const Loops& {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::avx512_core:
      case dnnl::cpu_isa::avx512_core_vnni:
      case dnnl::cpu_isa::avx512_core_bf16:
      case dnnl::cpu_isa::avx512_core_amx:
        return kLoopsV4;
      default:
        return kLoopsV3;  // the library's own list, which grows
    }
  }();
  return loops;
}

float* ScratchFloats(Scratch purpose, int64_t count) {
  Pages& pages = ScratchPages()[static_cast<size_t>(purpose)];
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  if (pages.bytes() < bytes) {
    pages = Pages();  // the old first: both need not fit
    pages = Pages(bytes);
  }
  return reinterpret_cast<float*>(pages.data());
}

}  // namespace preheat::eager

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT uint32_t ph_module_abi_version() {
  return PH_ABI_VERSION;
}
EXPORT uint32_t ph_module_version() {
  return preheat::eager::kModuleVersion;
}

EXPORT const char* ph_module_identity() {
  static const std::string identity = [] {
    const dnnl::version_t& version = *dnnl::version();
    return "oneDNN " + std::to_string(version.major) + "." + std::to_string(version.minor) + "." +
           std::to_string(version.patch) + ", " +
           std::string(preheat::eager::IsaName(dnnl::get_effective_cpu_isa()));
  }();
  return identity.c_str();
}

EXPORT int ph_module_bf16() {
  return preheat::eager::MultipliesBf16() ? 1 : 0;
}
EXPORT void ph_module_set_threads(int threads) {
  preheat::eager::wanted_threads = threads;
}
EXPORT void ph_module_set_probe(ph_probe probe, void* user) {
  preheat::eager::SetProbe(probe, user);
}
EXPORT int64_t ph_module_packed_bytes() {
  return preheat::eager::PackedBytes();
}
EXPORT void ph_module_release() {
  preheat::eager::ReleaseWeights();
}

EXPORT const char* ph_module_take_error() {
  using namespace preheat::eager;
  if (error.empty()) return nullptr;
  taken_error = std::move(error);
  error.clear();
  return taken_error.c_str();
}

EXPORT ph_kernel ph_module_kernel(const char* name) {
  for (const auto& entry : preheat::eager::kEntries) {
    if (entry.name == name) return entry.kernel;
  }
  return nullptr;
}
