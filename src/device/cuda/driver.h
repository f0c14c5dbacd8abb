// NVIDIA's driver, opened at run time: libcuda.so.1 and the few of its functions that we use, declared here,
// so that neither building nor starting needs CUDA. Names and numbers are those of the CUDA Driver API
// reference manual.
//
// A table of functions rather than direct calls: a test's driver is another table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace preheat::device::cuda {

using Result = int;  // CUresult
inline constexpr Result kSuccess = 0, kOutOfMemory = 2, kUnavailable = 46, kNoDevice = 100, kNotReady = 600;

using DeviceHandle = int;
using Address = uint64_t;  // CUdeviceptr
using Context = struct ContextTag*;
using Stream = struct StreamTag*;
using Event = struct EventTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Graph = struct GraphTag*;
using GraphExec = struct GraphExecTag*;

enum DeviceAttribute : int {
  kMultiprocessorCount = 16,
  kComputeMode = 20,
  kL2CacheSize = 38,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kSharedPerBlockOptin = 97,
};
inline constexpr int kProhibited = 2, kExclusiveProcess = 3;       // values of kComputeMode
inline constexpr int kMaxDynamicSharedBytes = 8;                   // CU_FUNC_ATTRIBUTE
inline constexpr unsigned kNonBlockingStream = 1;                  // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kEventWithoutTiming = 2;                 // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned kHostMapped = 2;                         // CU_MEMHOSTALLOC_DEVICEMAP
inline constexpr unsigned kHostPortable = 1;                       // CU_MEMHOSTALLOC_PORTABLE
enum JitOption : int { kJitErrorLog = 5, kJitErrorLogBytes = 6 };  // CU_JIT_ERROR_LOG_BUFFER, ..._SIZE_BYTES
inline constexpr int kCaptureThreadLocal = 1;                      // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

// As the driver encodes a tensor for the copy engine; aligned to 64 bytes.
struct alignas(64) TensorMap {
  uint64_t words[16];
};
enum TensorMapType : int { kFloat16Elements = 6, kFloat32Elements = 7, kBfloat16Elements = 9 };
enum TensorMapSwizzle : int { kNoSwizzle = 0, kSwizzle32 = 1, kSwizzle64 = 2, kSwizzle128 = 3 };
inline constexpr int kNoInterleave = 0, kPromoteTo256 = 3, kFillWithZeros = 0;

struct LaunchAttribute {
  enum Id : int { kClusterDimension = 4, kProgrammaticSerialization = 6 };
  int id = 0;
  int pad = 0;
  union {
    char bytes[64];
    int programmatic;
    unsigned cluster[3];
  } value{};

  static LaunchAttribute Cluster(unsigned blocks) {
    LaunchAttribute attribute{.id = kClusterDimension};
    attribute.value.cluster[0] = blocks;
    attribute.value.cluster[1] = attribute.value.cluster[2] = 1;
    return attribute;
  }
};

struct LaunchConfig {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  Stream stream = nullptr;
  LaunchAttribute* attributes = nullptr;
  unsigned attribute_count = 0;
};

struct Driver {
  Result (*Init)(unsigned flags);
  Result (*DriverGetVersion)(int* version);
  Result (*GetErrorName)(Result result, const char** text);
  Result (*GetErrorString)(Result result, const char** text);
  Result (*DeviceGetCount)(int* count);
  Result (*DeviceGet)(DeviceHandle* device, int ordinal);
  Result (*DeviceGetName)(char* name, int size, DeviceHandle device);
  Result (*DeviceGetAttribute)(int* value, int attribute, DeviceHandle device);
  Result (*DeviceTotalMem)(size_t* bytes, DeviceHandle device);
  Result (*PrimaryCtxRetain)(Context* context, DeviceHandle device);
  Result (*PrimaryCtxRelease)(DeviceHandle device);
  Result (*CtxSetCurrent)(Context context);
  Result (*MemGetInfo)(size_t* free_bytes, size_t* total_bytes);
  Result (*MemAlloc)(Address* address, size_t bytes);
  Result (*MemFree)(Address address);
  Result (*MemsetD8Async)(Address address, unsigned char value, size_t bytes, Stream stream);
  Result (*MemcpyHtoDAsync)(Address to, const void* from, size_t bytes, Stream stream);
  Result (*MemcpyDtoHAsync)(void* to, Address from, size_t bytes, Stream stream);
  Result (*MemHostAlloc)(void** memory, size_t bytes, unsigned flags);
  Result (*MemFreeHost)(void* memory);
  Result (*MemHostGetDevicePointer)(Address* address, void* memory, unsigned flags);
  Result (*StreamCreate)(Stream* stream, unsigned flags);
  Result (*StreamDestroy)(Stream stream);
  Result (*StreamSynchronize)(Stream stream);
  Result (*StreamQuery)(Stream stream);
  Result (*EventCreate)(Event* event, unsigned flags);
  Result (*EventDestroy)(Event event);
  Result (*EventRecord)(Event event, Stream stream);
  Result (*EventSynchronize)(Event event);
  Result (*ModuleLoadData)(Module* module, const void* image);
  // For PTX, which ends with a NUL; values[i] is options[i]'s.
  Result (*ModuleLoadDataEx)(Module* module, const void* image, unsigned count, const JitOption* options,
                             void** values);
  Result (*ModuleUnload)(Module module);
  Result (*ModuleGetFunction)(Function* function, Module module, const char* name);
  Result (*FuncSetAttribute)(Function function, int attribute, int value);
  Result (*OccupancyMaxActiveClusters)(int* clusters, Function function, const LaunchConfig* config);
  // Extents, boxes and steps of all dimensions; strides in bytes of all but the first.
  Result (*TensorMapEncodeTiled)(TensorMap* map, TensorMapType type, uint32_t rank, void* address,
                                 const uint64_t* extents, const uint64_t* strides, const uint32_t* box,
                                 const uint32_t* steps, int interleave, TensorMapSwizzle swizzle,
                                 int promotion, int fill);
  Result (*LaunchKernelEx)(const LaunchConfig* config, Function function, void** parameters, void** extra);
  Result (*StreamBeginCapture)(Stream stream, int mode);
  Result (*StreamEndCapture)(Stream stream, Graph* graph);
  Result (*GraphInstantiate)(GraphExec* exec, Graph graph, unsigned long long flags);
  Result (*GraphLaunch)(GraphExec exec, Stream stream);
  Result (*GraphExecDestroy)(GraphExec exec);
  Result (*GraphDestroy)(Graph graph);

  // Throws kDevice: `what` failed, the driver's name for it and its text; kind-specific advice for what users
  // meet.
  void Check(Result result, const std::string& what) const;
  // Of its interface: "13.0".
  std::string VersionText() const;
};

// The machine's driver, opened and initialised once; the library stays open for good. Throws kDevice where
// there is none, where it is older than what we use (its version, and what is needed), or where it does not
// start.
const Driver& OpenDriver();
// As OpenDriver; null where there is none or no card, or where it cannot be used, of which it warns once.
const Driver* FindDriver();
// "; CUDA_VISIBLE_DEVICES=..." and what follows of it; "" where that variable is not set. It hides cards from
// the driver, which then says only that there are none.
std::string WhatHidesCards();

}  // namespace preheat::device::cuda
