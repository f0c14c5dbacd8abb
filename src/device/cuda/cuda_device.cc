#include "device/cuda/cuda_device.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/error.h"
#include "base/size_text.h"
#include "device/cuda/code_module.h"
#include "device/cuda/links.h"
#include "device/cuda/upload.h"
#include "sys/clock.h"

namespace preheat::device {
namespace {

using base::ErrorKind;
using base::MakeError;
using cuda::Driver;

constexpr size_t kRingBytes = sizeof(ph_ring);
// A token takes milliseconds; whoever waits this long waits for something that does not come.
constexpr double kLongestWaitSeconds = 60;

// What a kernel is given: as much of it as it has parameters.
struct KernelParameters {
  ph_gpu_args args{};
  TensorMap maps[PH_MOST_TENSOR_MAPS];
};
static_assert(offsetof(KernelParameters, maps) ==
              (sizeof(ph_gpu_args) + PH_TENSOR_MAP_ALIGN - 1) / PH_TENSOR_MAP_ALIGN * PH_TENSOR_MAP_ALIGN);
static_assert(sizeof(TensorMap) == sizeof(cuda::TensorMap));

cuda::TensorMapType TypeOf(tensor::DType element) {
  if (element == tensor::DType::kF32) return cuda::kFloat32Elements;
  return element == tensor::DType::kF16 ? cuda::kFloat16Elements : cuda::kBfloat16Elements;
}

cuda::TensorMapSwizzle SwizzleOf(int bytes) {
  if (bytes == 32) return cuda::kSwizzle32;
  if (bytes == 64) return cuda::kSwizzle64;
  return bytes == 128 ? cuda::kSwizzle128 : cuda::kNoSwizzle;
}

// The card does not take this process: its compute mode says why.
[[noreturn]] void ThrowUnavailable(const Driver& driver, cuda::DeviceHandle device, const std::string& id) {
  int mode = 0;
  (void)driver.DeviceGetAttribute(&mode, cuda::kComputeMode, device);
  const char* why =
      mode == cuda::kProhibited ? "its compute mode is \"prohibited\"; set another with nvidia-smi -c DEFAULT"
      : mode == cuda::kExclusiveProcess
          ? "its compute mode is \"exclusive process\", and another process has it; end that one, or "
            "set the mode with nvidia-smi -c DEFAULT"
          : "it is busy or has failed; nvidia-smi says what is on it";
  throw MakeError(ErrorKind::kDevice, "{} takes no process: {}, or use another --device", id, why);
}

// Frees without knowing the device: the context is the process's, and stays as long as it.
const Driver* freeing_driver = nullptr;

}  // namespace

std::string CapabilityText(int capability) {
  return fmt::format("{}.{}", capability / 10, capability % 10);
}

std::vector<CudaInfo> ListCudaDevices(const Driver& driver) {
  int count = 0;
  driver.Check(driver.DeviceGetCount(&count), "counting CUDA devices");
  std::vector<CudaInfo> devices;
  for (int i = 0; i < count; ++i) {
    cuda::DeviceHandle device = 0;
    driver.Check(driver.DeviceGet(&device, i), fmt::format("looking at CUDA device {}", i));
    const auto attribute = [&](cuda::DeviceAttribute which) {
      int value = 0;
      driver.Check(driver.DeviceGetAttribute(&value, which, device), fmt::format("asking CUDA device {}", i));
      return value;
    };
    CudaInfo& info = devices.emplace_back();
    info.ordinal = i;
    char name[256] = {};
    driver.Check(driver.DeviceGetName(name, sizeof(name) - 1, device), "asking for a CUDA device's name");
    info.name = name;
    size_t bytes = 0;
    driver.Check(driver.DeviceTotalMem(&bytes, device), "asking for a CUDA device's memory");
    info.memory_bytes = static_cast<int64_t>(bytes);
    info.capability = attribute(cuda::kCapabilityMajor) * 10 + attribute(cuda::kCapabilityMinor);
    info.multiprocessors = attribute(cuda::kMultiprocessorCount);
    info.l2_bytes = attribute(cuda::kL2CacheSize);
    info.shared_bytes_per_block = attribute(cuda::kSharedPerBlockOptin);
  }
  return devices;
}

CudaInfo FindCudaDevice(const Driver& driver, int ordinal) {
  const std::vector<CudaInfo> all = ListCudaDevices(driver);
  if (ordinal >= 0 && static_cast<size_t>(ordinal) < all.size()) return all[static_cast<size_t>(ordinal)];
  throw MakeError(ErrorKind::kDevice, "--device cuda:{}: there {}{}; `preheat devices` lists them", ordinal,
                  all.empty()       ? "is no CUDA device"
                  : all.size() == 1 ? "is only cuda:0"
                                    : fmt::format("are only cuda:0 to cuda:{}", all.size() - 1),
                  cuda::WhatHidesCards());
}

CudaDevice::CudaDevice(const Driver& driver, int ordinal)
    : CudaDevice(driver, fmt::format("cuda:{}", ordinal)) {
  info_ = FindCudaDevice(driver, ordinal);
  freeing_driver = &driver;
  driver_.Check(driver_.DeviceGet(&device_, ordinal), "opening " + id_);
  const cuda::Result opened = driver_.PrimaryCtxRetain(&context_, device_);
  if (opened == cuda::kUnavailable) ThrowUnavailable(driver_, device_, id_);
  driver_.Check(opened, "opening " + id_);
  MakeCurrent();
  driver_.Check(driver_.StreamCreate(&stream_, cuda::kNonBlockingStream), "making a stream");
  void* memory = nullptr;
  driver_.Check(driver_.MemHostAlloc(&memory, kRingBytes, cuda::kHostMapped | cuda::kHostPortable),
                "getting memory that host and card share");
  ring_ = static_cast<ph_ring*>(memory);
  *ring_ = {};
  cuda::Address address = 0;
  driver_.Check(driver_.MemHostGetDevicePointer(&address, memory, 0), "mapping memory to the card");
  ring_address_ = reinterpret_cast<ph_ring*>(address);
}

CudaDevice::~CudaDevice() {
  if (context_ == nullptr) return;
  MakeCurrent();
  if (stream_ != nullptr) {
    (void)driver_.StreamSynchronize(stream_);
    (void)driver_.StreamDestroy(stream_);
  }
  if (ring_ != nullptr) (void)driver_.MemFreeHost(ring_);
  (void)driver_.PrimaryCtxRelease(device_);
}

void CudaDevice::MakeCurrent() const {
  (void)driver_.CtxSetCurrent(context_);
}

std::optional<GpuFacts> CudaDevice::gpu() const {
  return GpuFacts{.capability = CapabilityText(info_.capability), .driver_version = driver_.VersionText()};
}

void CudaDevice::CheckTarget(std::string_view target) const {
  std::vector<std::string> mine = Targets();
  for (std::string& ptx : PtxTargets()) mine.push_back(std::move(ptx));
  if (std::ranges::find(mine, target) != mine.end()) return;
  throw MakeError(ErrorKind::kIncompatible, "code for target {}: {} has compute capability {} and runs {}",
                  target, info_.name, CapabilityText(info_.capability),
                  mine.empty() ? "none of our targets"
                               : fmt::format("{}; build for one of those", fmt::join(mine, ", ")));
}

std::unique_ptr<CodeModule> CudaDevice::LoadCode(std::span<const std::span<const std::byte>> images) {
  MakeCurrent();
  return std::make_unique<cuda::LoadedModules>(*this, images);
}

Buffer CudaDevice::Allocate(size_t size_bytes) {
  Buffer buffer = AllocateUncleared(size_bytes);
  if (size_bytes == 0) return buffer;
  driver_.Check(driver_.MemsetD8Async(reinterpret_cast<cuda::Address>(buffer.data()), 0, size_bytes, stream_),
                "clearing memory");
  return buffer;
}

Buffer CudaDevice::AllocateUncleared(size_t size_bytes) {
  if (size_bytes == 0) return {};
  MakeCurrent();
  cuda::Address address = 0;
  const cuda::Result result = driver_.MemAlloc(&address, size_bytes);
  if (result == cuda::kOutOfMemory) {
    size_t free_bytes = 0, total_bytes = 0;
    (void)driver_.MemGetInfo(&free_bytes, &total_bytes);
    throw MakeError(
        ErrorKind::kDevice,
        "{}: {} of memory are wanted and {} of {} are free; end other processes on the card, or use a "
        "smaller model or a shorter context",
        id_, base::SizeText(size_bytes), base::SizeText(free_bytes), base::SizeText(total_bytes));
  }
  driver_.Check(result, fmt::format("getting {} bytes of memory on {}", size_bytes, id_));
  return Buffer(reinterpret_cast<std::byte*>(address), size_bytes, [](std::byte* memory, size_t) {
    (void)freeing_driver->MemFree(reinterpret_cast<cuda::Address>(memory));
  });
}

std::unique_ptr<Weights> CudaDevice::PlaceWeights(std::vector<HostTensor> tensors) {
  return std::make_unique<CudaWeights>(*this, std::move(tensors));
}

void CudaDevice::Write(void* to, std::span<const std::byte> from) {
  if (from.empty()) return;
  MakeCurrent();
  // From ordinary memory the driver has taken its copy when it returns.
  driver_.Check(
      driver_.MemcpyHtoDAsync(reinterpret_cast<cuda::Address>(to), from.data(), from.size(), stream_),
      "copying to the card");
}

void CudaDevice::Read(std::span<std::byte> to, const void* from) {
  if (to.empty()) return;
  MakeCurrent();
  driver_.Check(driver_.MemcpyDtoHAsync(to.data(), reinterpret_cast<cuda::Address>(from), to.size(), stream_),
                "copying from the card");
  Finish();
}

TensorMap CudaDevice::EncodeTensorMap(const BoxTensor& tensor) const {
  const auto refuse = [&](std::string_view why) {
    throw MakeError(ErrorKind::kIncompatible, "{}: a program's tensor map {}; build the artifact again", id_,
                    why);
  };
  if (info_.capability < 90) refuse("needs compute capability 9.0");
  uint64_t extents[PH_MOST_TENSOR_MAP_DIMS], strides[PH_MOST_TENSOR_MAP_DIMS];
  uint32_t box[PH_MOST_TENSOR_MAP_DIMS], steps[PH_MOST_TENSOR_MAP_DIMS];
  const size_t rank = tensor.dims.size();
  CHECK(rank > 0 && rank <= PH_MOST_TENSOR_MAP_DIMS && tensor::IsFloat(tensor.element));
  for (size_t i = 0; i < rank; ++i) {
    extents[i] = static_cast<uint64_t>(tensor.dims[i].extent);
    if (i > 0) strides[i - 1] = static_cast<uint64_t>(tensor.dims[i].stride_bytes);
    box[i] = static_cast<uint32_t>(tensor.dims[i].box);
    steps[i] = 1;
  }
  TensorMap map;
  const cuda::Result result = driver_.TensorMapEncodeTiled(
      reinterpret_cast<cuda::TensorMap*>(&map), TypeOf(tensor.element), static_cast<uint32_t>(rank),
      const_cast<void*>(tensor.address), extents, strides, box, steps, cuda::kNoInterleave,
      SwizzleOf(tensor.swizzle_bytes), cuda::kPromoteTo256, cuda::kFillWithZeros);
  if (result != cuda::kSuccess) refuse("is none that the driver takes");
  return map;
}

void CudaDevice::Enqueue(const Launch& launch, bool first) {
  if (launch.tiles == 0) return;
  if (launch.kernel.host != nullptr) {  // a library's kernel puts its work into the stream itself
    launch.kernel.host(launch.args, 0, launch.tiles, launch.kernel.device);
    return;
  }
  CHECK(launch.tensor_maps.size() <= PH_MOST_TENSOR_MAPS);
  KernelParameters parameters;
  ph_gpu_args& args = parameters.args;
  cuda::CopyOperands(launch, args.operands);
  args.state = launch.args->state;
  args.rows = launch.args->rows;
  args.past = launch.args->past;
  args.capacity = launch.args->capacity;
  args.tiles = launch.tiles;
  int64_t blocks = launch.tiles;
  if (launch.blocks.blocks_per_sm > 0) {
    blocks = std::min<int64_t>(launch.most_blocks > 0 ? launch.most_blocks : blocks,
                               int64_t{launch.blocks.blocks_per_sm} * info_.multiprocessors);
  }
  if (blocks > INT32_MAX) {
    throw MakeError(ErrorKind::kCorrupt, "{}: a launch of {} blocks; build the artifact again", id_, blocks);
  }
  // Code for 8.0 runs on 8.6 and 8.9, too, whose blocks have less of it.
  if (launch.blocks.shared_bytes > info_.shared_bytes_per_block) {
    throw MakeError(ErrorKind::kIncompatible,
                    "{}: a kernel takes {} bytes of shared memory, and a block of {} has {}; build for {}",
                    id_, launch.blocks.shared_bytes, info_.name, info_.shared_bytes_per_block,
                    TargetsOrThrow(*this).front());
  }
  const auto& kernel = *static_cast<const cuda::LoadedKernel*>(launch.kernel.device);
  const int64_t cluster = std::max(1, launch.blocks.cluster);
  blocks = std::max(cluster, blocks / cluster * cluster);
  std::ranges::copy(launch.tensor_maps, parameters.maps);
  cuda::LaunchAttribute attributes[2] = {};
  unsigned attribute_count = 0;
  if (!first && kernel.waits) {
    cuda::LaunchAttribute& overlap = attributes[attribute_count++];
    overlap.id = cuda::LaunchAttribute::kProgrammaticSerialization;
    overlap.value.programmatic = 1;
  }
  if (cluster > 1)
    attributes[attribute_count++] = cuda::LaunchAttribute::Cluster(static_cast<unsigned>(cluster));
  cuda::LaunchConfig config;
  config.grid[0] = static_cast<unsigned>(blocks);
  config.block[0] = static_cast<unsigned>(launch.blocks.threads);
  config.shared_bytes = static_cast<unsigned>(launch.blocks.shared_bytes);
  config.stream = stream_;
  config.attributes = attributes;
  config.attribute_count = attribute_count;
  void* pointers[] = {&parameters};
  driver_.Check(driver_.LaunchKernelEx(&config, kernel.function, pointers, nullptr), "starting a kernel");
}

void CudaDevice::Run(std::span<const Launch> launches) {
  MakeCurrent();
  for (size_t i = 0; i < launches.size(); ++i) {
    if (launches[i].link != 0) {
      throw MakeError(ErrorKind::kCorrupt,
                      "{}: a program that cannot be recorded has links of a persistent kernel; build the "
                      "artifact again",
                      id_);
    }
    Enqueue(launches[i], i == 0);
  }
}

void CudaDevice::Finish() {
  MakeCurrent();
  driver_.Check(driver_.StreamSynchronize(stream_), "running on the card");
}

class CudaDevice::GraphRecording final : public Recording {
 public:
  GraphRecording(CudaDevice& device, std::span<const Launch> recorded)
      : device_(device), joined_(device, recorded) {
    const Driver& driver = device.driver_;
    const std::span<const Launch> launches = joined_.launches();
    driver.Check(driver.StreamBeginCapture(device.stream_, cuda::kCaptureThreadLocal), "recording a step");
    cuda::Graph graph = nullptr;
    try {
      for (size_t i = 0; i < launches.size(); ++i) device.Enqueue(launches[i], i == 0);
    } catch (...) {
      (void)driver.StreamEndCapture(device.stream_, &graph);
      if (graph != nullptr) (void)driver.GraphDestroy(graph);
      throw;
    }
    driver.Check(driver.StreamEndCapture(device.stream_, &graph), "recording a step");
    const cuda::Result result = driver.GraphInstantiate(&exec_, graph, 0);
    (void)driver.GraphDestroy(graph);
    driver.Check(result, "making a recorded step ready");
  }
  ~GraphRecording() override {
    device_.MakeCurrent();
    (void)device_.driver_.GraphExecDestroy(exec_);
  }

  void Run() override {
    device_.driver_.Check(device_.driver_.GraphLaunch(exec_, device_.stream_), "starting a recorded step");
  }

 private:
  CudaDevice& device_;
  cuda::JoinedLaunches joined_;
  cuda::GraphExec exec_ = nullptr;
};

std::unique_ptr<Recording> CudaDevice::Record(std::span<const Launch> launches) {
  MakeCurrent();
  return std::make_unique<GraphRecording>(*this, launches);
}

void CudaDevice::SetRing(uint32_t count) {
  Finish();
  std::atomic_ref<uint32_t>(ring_->count).store(count, std::memory_order_release);
}

// The count is all that is looked at mostly; the driver is asked now and then whether the card still works.
void CudaDevice::WaitForRing(uint32_t count) {
  const std::atomic_ref<uint32_t> reported(ring_->count);
  // Steps that ran ahead may have reported more by now; the count may wrap.
  const auto come = [&] {
    return static_cast<int32_t>(reported.load(std::memory_order_acquire) - count) >= 0;
  };
  const double start = sys::MonotonicSeconds();
  constexpr int kLooksBetweenQuestions = 4096;
  for (int look = 1; !come(); ++look) {
    if (look % kLooksBetweenQuestions != 0) continue;
    const cuda::Result result = driver_.StreamQuery(stream_);
    if (result == cuda::kNotReady) {
      if (sys::MonotonicSeconds() - start < kLongestWaitSeconds) continue;
      throw MakeError(ErrorKind::kDevice,
                      "{}: a step has not ended for {} seconds; the card hangs, or others use it", id_,
                      kLongestWaitSeconds);
    }
    driver_.Check(result, "running on the card");
    if (come()) return;
    throw MakeError(ErrorKind::kDevice,
                    "{}: all steps ended and the token did not come; build the artifact again", id_);
  }
}

}  // namespace preheat::device
