#include "device/cuda/driver.h"

#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "sys/dynamic_library.h"
#include "sys/env.h"

namespace preheat::device::cuda {
namespace {

using base::ErrorKind;
using base::MakeError;

constexpr int kOldestVersion = 12000;  // of the driver's interface: CUDA 12.0, driver 525

std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

const char* Advice(Result result) {
  switch (result) {
    case kOutOfMemory:
      return "; free memory on the card, or use a smaller model or a shorter context";
    case kNoDevice:
      return "; is a card there, and is CUDA_VISIBLE_DEVICES right?";
    case 214:  // CUDA_ERROR_ECC_UNCORRECTABLE
    case 999:  // CUDA_ERROR_UNKNOWN
      return "; the card has failed or has gone: see nvidia-smi and the kernel's log";
    case 209:  // CUDA_ERROR_NO_BINARY_FOR_GPU
      return "; build the artifact for this card: --targets with a name that `preheat devices` shows";
    case 218:  // CUDA_ERROR_INVALID_PTX
      return "; build the artifact again, with an NVRTC that is no newer than the driver";
    case 221:  // CUDA_ERROR_JIT_COMPILER_NOT_FOUND
      return "; the driver's compiler, libnvidia-ptxjitcompiler.so.1, is missing: install the whole driver, "
             "or "
             "build for this card's architecture";
    case 222:  // CUDA_ERROR_UNSUPPORTED_PTX_VERSION
      return "; an NVRTC made it that is newer than the driver: install a newer driver, or build with an "
             "NVRTC "
             "that is no newer than the driver";
    case 223:  // CUDA_ERROR_JIT_COMPILATION_DISABLED
      return "; CUDA_DISABLE_PTX_JIT forbids it: unset that";
    case 700:  // CUDA_ERROR_ILLEGAL_ADDRESS
    case 719:  // CUDA_ERROR_LAUNCH_FAILED
      return "; the card has given up this process: start it again";
    case 803:  // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
      return "; the driver's library and its kernel module differ: restart the machine";
    default:
      return "";
  }
}

Driver LoadFunctions(const sys::DynamicLibrary& library) {
  Driver driver{};
  sys::SymbolFinder find(library);
  find(driver.Init, "cuInit");
  find(driver.DriverGetVersion, "cuDriverGetVersion");
  find(driver.GetErrorName, "cuGetErrorName");
  find(driver.GetErrorString, "cuGetErrorString");
  find(driver.DeviceGetCount, "cuDeviceGetCount");
  find(driver.DeviceGet, "cuDeviceGet");
  find(driver.DeviceGetName, "cuDeviceGetName");
  find(driver.DeviceGetAttribute, "cuDeviceGetAttribute");
  find(driver.DeviceTotalMem, "cuDeviceTotalMem_v2");
  find(driver.PrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
  find(driver.PrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2");
  find(driver.CtxSetCurrent, "cuCtxSetCurrent");
  find(driver.MemGetInfo, "cuMemGetInfo_v2");
  find(driver.MemAlloc, "cuMemAlloc_v2");
  find(driver.MemFree, "cuMemFree_v2");
  find(driver.MemsetD8Async, "cuMemsetD8Async");
  find(driver.MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2");
  find(driver.MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2");
  find(driver.MemHostAlloc, "cuMemHostAlloc");
  find(driver.MemFreeHost, "cuMemFreeHost");
  find(driver.MemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2");
  find(driver.StreamCreate, "cuStreamCreate");
  find(driver.StreamDestroy, "cuStreamDestroy_v2");
  find(driver.StreamSynchronize, "cuStreamSynchronize");
  find(driver.StreamQuery, "cuStreamQuery");
  find(driver.EventCreate, "cuEventCreate");
  find(driver.EventDestroy, "cuEventDestroy_v2");
  find(driver.EventRecord, "cuEventRecord");
  find(driver.EventSynchronize, "cuEventSynchronize");
  find(driver.ModuleLoadData, "cuModuleLoadData");
  find(driver.ModuleLoadDataEx, "cuModuleLoadDataEx");
  find(driver.ModuleUnload, "cuModuleUnload");
  find(driver.ModuleGetFunction, "cuModuleGetFunction");
  find(driver.FuncSetAttribute, "cuFuncSetAttribute");
  find(driver.TensorMapEncodeTiled, "cuTensorMapEncodeTiled");
  find(driver.OccupancyMaxActiveClusters, "cuOccupancyMaxActiveClusters");
  find(driver.LaunchKernelEx, "cuLaunchKernelEx");
  find(driver.StreamBeginCapture, "cuStreamBeginCapture_v2");
  find(driver.StreamEndCapture, "cuStreamEndCapture");
  find(driver.GraphInstantiate, "cuGraphInstantiateWithFlags");
  find(driver.GraphLaunch, "cuGraphLaunch");
  find(driver.GraphExecDestroy, "cuGraphExecDestroy");
  find(driver.GraphDestroy, "cuGraphDestroy");
  int version = 0;
  if (driver.DriverGetVersion != nullptr) driver.DriverGetVersion(&version);
  if (!find.found_all() || version < kOldestVersion) {
    throw MakeError(
        ErrorKind::kDevice,
        "NVIDIA driver: version {} of its interface{}, and at least {} is needed: install a newer driver",
        VersionText(version), find.WithoutText(), VersionText(kOldestVersion));
  }
  return driver;
}

// The driver, or what is wrong with it.
struct Opened {
  std::optional<Driver> driver;
  std::optional<base::Error> error;
  bool there = false;  // a driver and a card, whether or not they can be used
};

const Opened& OpenOnce() {
  static const Opened opened = [] {
    Opened result;
    try {
      std::string reason;
      auto library = sys::DynamicLibrary::Open({"libcuda.so.1"}, &reason);
      if (!library) {
        throw MakeError(ErrorKind::kDevice, "no NVIDIA driver: {}; install the driver, or use --device cpu",
                        reason);
      }
      library->KeepOpen();
      result.there = true;
      Driver driver = LoadFunctions(*library);
      const Result started = driver.Init(0);
      if (started == kNoDevice) {
        result.there = false;
        throw MakeError(ErrorKind::kDevice,
                        "no CUDA device: the NVIDIA driver finds no card{}; use --device cpu",
                        WhatHidesCards());
      }
      driver.Check(started, "starting the NVIDIA driver");
      result.driver = driver;
    } catch (const base::Error& error) {
      result.error = error;
    }
    return result;
  }();
  return opened;
}

}  // namespace

void Driver::Check(Result result, const std::string& what) const {
  if (result == kSuccess) return;
  const char* name = nullptr;
  const char* text = nullptr;
  if (GetErrorName(result, &name) != kSuccess || name == nullptr) name = "unknown error";
  if (GetErrorString(result, &text) != kSuccess || text == nullptr) text = "no text";
  throw MakeError(ErrorKind::kDevice, "{} failed: {} ({}, {}){}", what, text, name, result, Advice(result));
}

std::string Driver::VersionText() const {
  int version = 0;
  Check(DriverGetVersion(&version), "asking for the NVIDIA driver's version");
  return cuda::VersionText(version);
}

const Driver& OpenDriver() {
  const Opened& opened = OpenOnce();
  if (opened.error) throw *opened.error;
  return *opened.driver;
}

const Driver* FindDriver() {
  const Opened& opened = OpenOnce();
  if (!opened.driver) {
    static std::once_flag warned;
    if (opened.there) {
      std::call_once(warned, [&] { base::Warn("no card is used: {}", opened.error->message()); });
    }
    return nullptr;
  }
  int count = 0;
  const bool any = opened.driver->DeviceGetCount(&count) == kSuccess && count > 0;
  return any ? &*opened.driver : nullptr;
}

std::string WhatHidesCards() {
  const auto visible = sys::GetEnvAsSet("CUDA_VISIBLE_DEVICES");
  if (!visible) return "";
  return fmt::format("; CUDA_VISIBLE_DEVICES=\"{}\" hides {}: unset it, or let it name the card", *visible,
                     visible->empty() ? "all of them" : "all others");
}

}  // namespace preheat::device::cuda
