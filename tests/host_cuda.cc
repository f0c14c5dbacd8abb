#include "host_cuda.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "base/error.h"
#include "codegen/codegen.h"
#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/host_boxes_for_test.h"
#include "codegen/cuda/host_machine_for_test.h"
#include "device/cuda/cuda_device.h"
#include "device/open.h"
#include "sys/code_image.h"
#include "sys/env.h"
#include "sys/files.h"
#include "toolchain/unit_jobs.h"

namespace preheat::testing {
namespace {

namespace cuda = device::cuda;
using codegen::cuda::HostKernel;
using codegen::cuda::HostLaunch;

constexpr cuda::Result kInvalid = 1, kNotFound = 500, kLaunchFailed = 719, kGone = 999;

// Machine code of the host's compiler behind the number of its bytes, which a driver is not told.
struct HostImage {
  uint64_t bytes;
};

struct RecordedLaunch {
  HostKernel kernel;
  HostLaunch launch;
  std::vector<std::byte> params;
};

struct LoadedModule {
  std::unique_ptr<codegen::cuda::CudaUnitForTest> unit;
  std::map<std::string, HostKernel> kernels;
};

struct State {
  HostCard card;
  std::string error = "no error";
  bool gone = false;
  int64_t launches = 0;
  std::vector<RecordedLaunch>* recording = nullptr;
};

State& TheState() {
  static State state;
  return state;
}

// Of one process; weights come by several threads.
struct Held {
  std::mutex mutex;
  HostCardUse use;
  std::map<void*, size_t> sizes;  // of device memory, by address
};

Held& TheHeld() {
  static Held held;
  return held;
}

void Count(int64_t HostCardUse::*what, int64_t change) {
  const std::lock_guard<std::mutex> lock(TheHeld().mutex);
  TheHeld().use.*what += change;
}

cuda::Result RunLaunch(const RecordedLaunch& recorded) {
  State& state = TheState();
  if (state.gone ||
      (state.card.launches_until_loss >= 0 && state.launches >= state.card.launches_until_loss)) {
    state.gone = true;
    state.error = "the card has gone";
    return kGone;
  }
  ++state.launches;
  HostLaunch launch = recorded.launch;
  launch.params = recorded.params;
  launch.seed = state.card.seed;
  // One that may have a block on each multiprocessor has them all at once.
  if (launch.grid <= state.card.multiprocessors) launch.resident_blocks = launch.grid;
  const codegen::cuda::HostRun run = codegen::cuda::RunOnHost(recorded.kernel, launch);
  if (run.error.empty()) return cuda::kSuccess;
  state.error = run.error;
  return kLaunchFailed;
}

cuda::Result LaunchKernelEx(const cuda::LaunchConfig* config, cuda::Function function, void** parameters,
                            void**) {
  const auto& kernel = *reinterpret_cast<const HostKernel*>(function);
  const auto* args = static_cast<const std::byte*>(parameters[0]);
  RecordedLaunch recorded = {.kernel = kernel,
                             .launch = {.grid = static_cast<int>(config->grid[0]),
                                        .threads = static_cast<int>(config->block[0]),
                                        .shared_bytes = static_cast<int>(config->shared_bytes)},
                             .params = {args, args + kernel.bounds->params_bytes}};
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const cuda::LaunchAttribute& attribute = config->attributes[i];
    if (attribute.id == cuda::LaunchAttribute::kProgrammaticSerialization)
      Count(&HostCardUse::overlapping_launches, 1);
    if (attribute.id != cuda::LaunchAttribute::kClusterDimension) continue;
    recorded.launch.cluster = static_cast<int>(attribute.value.cluster[0]);
  }
  State& state = TheState();
  if (state.recording != nullptr) {
    state.recording->push_back(std::move(recorded));
    return cuda::kSuccess;
  }
  return RunLaunch(recorded);
}

cuda::Result TensorMapEncodeTiled(cuda::TensorMap* map, cuda::TensorMapType type, uint32_t rank,
                                  void* address, const uint64_t* extents, const uint64_t* strides,
                                  const uint32_t* box, const uint32_t*, int, cuda::TensorMapSwizzle swizzle,
                                  int, int) {
  static_assert(sizeof(codegen::cuda::HostTensorMap) <= sizeof(cuda::TensorMap));
  const auto made =
      codegen::cuda::MakeHostTensorMap({.address = address,
                                        .element_bytes = type == cuda::kFloat32Elements ? 4 : 2,
                                        .swizzle_bytes = swizzle == cuda::kNoSwizzle ? 0 : 16 << swizzle,
                                        .extents = {extents, rank},
                                        .strides = {strides, rank - 1},
                                        .box = {box, rank}});
  if (!made) return kInvalid;
  std::memcpy(map, &*made, sizeof(*made));
  return cuda::kSuccess;
}

cuda::Result ModuleLoadData(cuda::Module* module, const void* image) {
  if (std::strncmp(static_cast<const char*>(image), ".version", 8) == 0)
    return kInvalid;  // PTX: no compiler here
  HostImage header;
  std::memcpy(&header, image, sizeof(header));
  auto loaded = std::make_unique<LoadedModule>();
  loaded->unit = std::make_unique<codegen::cuda::CudaUnitForTest>(codegen::cuda::CudaUnitForTest::FromBytes(
      {static_cast<const char*>(image) + sizeof(header), header.bytes}));
  Count(&HostCardUse::modules, 1);
  *module = reinterpret_cast<cuda::Module>(loaded.release());
  return cuda::kSuccess;
}

// Kernels are the host's whatever the target, so that PTX of a test is loaded as machine code is.
cuda::Result ModuleLoadDataEx(cuda::Module* module, const void* image, unsigned, const cuda::JitOption*,
                              void**) {
  return ModuleLoadData(module, image);
}

cuda::Result ModuleGetFunction(cuda::Function* function, cuda::Module module, const char* name) {
  auto& loaded = *reinterpret_cast<LoadedModule*>(module);
  const auto kernel = loaded.unit->Find(name);
  if (!kernel) return kNotFound;
  *function = reinterpret_cast<cuda::Function>(&(loaded.kernels[name] = *kernel));
  return cuda::kSuccess;
}

cuda::Result Alive() {
  return TheState().gone ? kGone : cuda::kSuccess;
}

cuda::Driver MakeDriver() {
  cuda::Driver d{};
  d.Init = [](unsigned) { return cuda::kSuccess; };
  d.DriverGetVersion = [](int* version) {
    *version = 13000;
    return cuda::kSuccess;
  };
  d.GetErrorName = [](cuda::Result, const char** text) {
    *text = "HOST_CARD";
    return cuda::kSuccess;
  };
  d.GetErrorString = [](cuda::Result, const char** text) {
    *text = TheState().error.c_str();
    return cuda::kSuccess;
  };
  d.DeviceGetCount = [](int* count) {
    TheState() = {.card = TheHostCard()};  // a device begins with a new card
    *count = 1;
    return cuda::kSuccess;
  };
  d.DeviceGet = [](cuda::DeviceHandle* device, int ordinal) {
    *device = ordinal;
    return cuda::kSuccess;
  };
  d.DeviceGetName = [](char* name, int size, cuda::DeviceHandle) {
    std::strncpy(name, "Host card", static_cast<size_t>(size));
    return cuda::kSuccess;
  };
  d.DeviceGetAttribute = [](int* value, int attribute, cuda::DeviceHandle) {
    const HostCard& card = TheState().card;
    const std::map<int, int> values = {{cuda::kMultiprocessorCount, card.multiprocessors},
                                       {cuda::kComputeMode, 0},
                                       {cuda::kL2CacheSize, 1 << 20},
                                       {cuda::kCapabilityMajor, card.capability / 10},
                                       {cuda::kCapabilityMinor, card.capability % 10},
                                       {cuda::kSharedPerBlockOptin, 227 << 10}};
    const auto found = values.find(attribute);
    if (found == values.end()) return kInvalid;
    *value = found->second;
    return cuda::kSuccess;
  };
  d.DeviceTotalMem = [](size_t* bytes, cuda::DeviceHandle) {
    *bytes = TheState().card.memory_bytes;
    return cuda::kSuccess;
  };
  d.PrimaryCtxRetain = [](cuda::Context* context, cuda::DeviceHandle) {
    *context = reinterpret_cast<cuda::Context>(&TheState());
    return cuda::kSuccess;
  };
  d.PrimaryCtxRelease = [](cuda::DeviceHandle) { return cuda::kSuccess; };
  d.CtxSetCurrent = [](cuda::Context) { return cuda::kSuccess; };
  d.MemGetInfo = [](size_t* free_bytes, size_t* total_bytes) {
    *free_bytes = *total_bytes = TheState().card.memory_bytes;
    return cuda::kSuccess;
  };
  d.MemAlloc = [](cuda::Address* address, size_t bytes) {
    if (bytes > TheState().card.memory_bytes) return cuda::kOutOfMemory;
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    // What nobody wrote is no number.
    if (memory != nullptr) {
      std::memset(memory, 0xff, bytes);
      const std::lock_guard<std::mutex> lock(TheHeld().mutex);
      TheHeld().sizes[memory] = bytes;
      TheHeld().use.bytes += static_cast<int64_t>(bytes);
      ++TheHeld().use.allocations;
      ++TheHeld().use.all_allocations;
    }
    *address = reinterpret_cast<cuda::Address>(memory);
    return memory == nullptr ? cuda::kOutOfMemory : cuda::kSuccess;
  };
  d.MemFree = [](cuda::Address address) {
    void* const memory = reinterpret_cast<void*>(address);
    {
      const std::lock_guard<std::mutex> lock(TheHeld().mutex);
      const auto found = TheHeld().sizes.find(memory);
      if (found == TheHeld().sizes.end()) return kInvalid;
      TheHeld().use.bytes -= static_cast<int64_t>(found->second);
      --TheHeld().use.allocations;
      TheHeld().sizes.erase(found);
    }
    std::free(memory);
    return cuda::kSuccess;
  };
  d.MemsetD8Async = [](cuda::Address address, unsigned char value, size_t bytes, cuda::Stream) {
    const int64_t poisoned_from = TheState().card.poisoned_from_bytes;
    const bool poisoned = value == 0 && poisoned_from >= 0 && static_cast<int64_t>(bytes) >= poisoned_from;
    std::memset(reinterpret_cast<void*>(address), poisoned ? 0xff : value, bytes);
    return Alive();
  };
  d.MemcpyHtoDAsync = [](cuda::Address to, const void* from, size_t bytes, cuda::Stream) {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return Alive();
  };
  d.MemcpyDtoHAsync = [](void* to, cuda::Address from, size_t bytes, cuda::Stream) {
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return Alive();
  };
  d.MemHostAlloc = [](void** memory, size_t bytes, unsigned) {
    Count(&HostCardUse::host_allocations, 1);
    *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *memory == nullptr ? cuda::kOutOfMemory : cuda::kSuccess;
  };
  d.MemFreeHost = [](void* memory) {
    Count(&HostCardUse::host_allocations, -1);
    std::free(memory);
    return cuda::kSuccess;
  };
  d.MemHostGetDevicePointer = [](cuda::Address* address, void* memory, unsigned) {
    *address = reinterpret_cast<cuda::Address>(memory);
    return cuda::kSuccess;
  };
  d.StreamCreate = [](cuda::Stream* stream, unsigned) {
    *stream = reinterpret_cast<cuda::Stream>(&TheState());
    return cuda::kSuccess;
  };
  d.StreamDestroy = [](cuda::Stream) { return cuda::kSuccess; };
  d.StreamSynchronize = [](cuda::Stream) { return Alive(); };
  d.StreamQuery = [](cuda::Stream) { return Alive(); };
  d.EventCreate = [](cuda::Event* event, unsigned) {
    *event = reinterpret_cast<cuda::Event>(&TheState());
    return cuda::kSuccess;
  };
  d.EventDestroy = [](cuda::Event) { return cuda::kSuccess; };
  d.EventRecord = [](cuda::Event, cuda::Stream) { return cuda::kSuccess; };
  d.EventSynchronize = [](cuda::Event) { return Alive(); };
  d.ModuleLoadData = ModuleLoadData;
  d.ModuleLoadDataEx = ModuleLoadDataEx;
  d.ModuleUnload = [](cuda::Module module) {
    Count(&HostCardUse::modules, -1);
    delete reinterpret_cast<LoadedModule*>(module);
    return cuda::kSuccess;
  };
  d.ModuleGetFunction = ModuleGetFunction;
  d.FuncSetAttribute = [](cuda::Function, int, int) { return cuda::kSuccess; };
  d.TensorMapEncodeTiled = TensorMapEncodeTiled;
  d.LaunchKernelEx = LaunchKernelEx;
  d.StreamBeginCapture = [](cuda::Stream, int) {
    TheState().recording = new std::vector<RecordedLaunch>;
    return cuda::kSuccess;
  };
  d.StreamEndCapture = [](cuda::Stream, cuda::Graph* graph) {
    *graph = reinterpret_cast<cuda::Graph>(TheState().recording);
    TheState().recording = nullptr;
    return cuda::kSuccess;
  };
  d.GraphInstantiate = [](cuda::GraphExec* exec, cuda::Graph graph, unsigned long long) {
    Count(&HostCardUse::recordings, 1);
    *exec = reinterpret_cast<cuda::GraphExec>(
        new std::vector<RecordedLaunch>(*reinterpret_cast<std::vector<RecordedLaunch>*>(graph)));
    return cuda::kSuccess;
  };
  d.GraphLaunch = [](cuda::GraphExec exec, cuda::Stream) {
    for (const RecordedLaunch& launch : *reinterpret_cast<std::vector<RecordedLaunch>*>(exec)) {
      if (const cuda::Result result = RunLaunch(launch); result != cuda::kSuccess) return result;
    }
    return cuda::kSuccess;
  };
  d.GraphExecDestroy = [](cuda::GraphExec exec) {
    Count(&HostCardUse::recordings, -1);
    delete reinterpret_cast<std::vector<RecordedLaunch>*>(exec);
    return cuda::kSuccess;
  };
  d.GraphDestroy = [](cuda::Graph graph) {
    delete reinterpret_cast<std::vector<RecordedLaunch>*>(graph);
    return cuda::kSuccess;
  };
  return d;
}

}  // namespace

HostCard& TheHostCard() {
  static HostCard card;
  return card;
}

HostCardUse UseOfHostCard() {
  const std::lock_guard<std::mutex> lock(TheHeld().mutex);
  HostCardUse use = TheHeld().use;
  use.launches = TheState().launches;
  return use;
}

const device::cuda::Driver& HostDriver() {
  static const cuda::Driver driver = MakeDriver();
  return driver;
}

bool HostCardRuns() {
  return codegen::cuda::HostMachineRuns();
}

const char* RealCard() {
  return std::getenv("PREHEAT_TEST_CARD");
}

std::unique_ptr<device::Device> OpenCard() {
  if (RealCard() != nullptr) return device::Open(RealCard());
  return std::make_unique<device::CudaDevice>(HostDriver(), 0);
}

const toolchain::Compiler* CardCompiler() {
  static const HostCudaCompiler host;
  return RealCard() == nullptr ? &host : nullptr;
}

std::vector<toolchain::CompiledUnit> HostCudaCompiler::Compile(
    const std::vector<toolchain::Unit>& units, const toolchain::CompileOptions& options) const {
  return toolchain::CompileSideBySide(units, options, [](const toolchain::Unit& unit, size_t) {
    const codegen::cuda::CudaUnitForTest compiled(unit.source,
                                                  {.arch = codegen::ParseTarget(unit.target).sm * 10});
    const std::string& bytes = compiled.bytes();
    if (bytes.empty()) throw base::Error(base::ErrorKind::kToolFailed, compiled.log());
    sys::CodeImage image;
    image.target = unit.target;
    const HostImage header = {bytes.size()};
    image.body.resize(sizeof(header) + bytes.size());
    std::memcpy(image.body.data(), &header, sizeof(header));
    std::memcpy(image.body.data() + sizeof(header), bytes.data(), bytes.size());
    if (sys::IsPtxTarget(unit.target)) image.body.push_back(std::byte{0});  // as a text ends
    for (const std::string& name : compiled.KernelNames()) image.entries.push_back({name, 0});
    return toolchain::CompiledUnit{unit.name, sys::SerializeCodeImage(image)};
  });
}

}  // namespace preheat::testing
