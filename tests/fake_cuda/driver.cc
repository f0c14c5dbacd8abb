// A libcuda.so.1 that has cards and runs nothing: what a user meets when a card or its driver is at fault is
// tested with the binaries as they are. Kernels are launched and do nothing, so that no token ever comes.
// (Kernels do run on tests/host_cuda.h's card, inside a test's own process.)
//
// $FAKE_CARD sets what it is, NAME=NUMBER parted by blanks; see Number's callers for names and defaults.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {

constexpr int kSuccess = 0, kInvalid = 1, kOutOfMemory = 2, kNoDevice = 100, kInvalidDevice = 101;

int64_t Number(const std::string& name, int64_t otherwise) {
  const char* text = std::getenv("FAKE_CARD");
  const std::string settings = " " + std::string(text == nullptr ? "" : text);
  const size_t at = settings.find(" " + name + "=");
  return at == std::string::npos ? otherwise : std::atoll(settings.c_str() + at + name.size() + 2);
}

// As the driver counts: those of $CUDA_VISIBLE_DEVICES up to the first that there is not.
int VisibleCards() {
  const int cards = static_cast<int>(Number("cards", 1));
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) return cards;
  int count = 0;
  for (const char* at = visible; *at >= '0' && *at <= '9'; ++count) {
    char* end = nullptr;
    if (std::strtol(at, &end, 10) >= cards) break;
    at = *end == ',' ? end + 1 : end;
  }
  return count;
}

std::mutex memory_mutex;
std::map<void*, size_t> memory_sizes;  // by address
int64_t memory_used = 0;
std::atomic<int64_t> launches = 0;
std::atomic<bool> lost = false;

int64_t TotalBytes() {
  return Number("memory_bytes", int64_t{8} << 30);
}
int64_t FreeBytes() {
  return Number("free_bytes", TotalBytes()) - memory_used;
}

int Alive() {
  return lost ? static_cast<int>(Number("loss", 999)) : kSuccess;
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
  if (VisibleCards() == 0) return kNoDevice;
  return static_cast<int>(Number("init", kSuccess));
}
int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(Number("version", 13000));
  return kSuccess;
}
int cuGetErrorName(int result, const char** text) {
  *text = result == kNoDevice ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_FAKE";
  return kSuccess;
}
int cuGetErrorString(int, const char** text) {
  *text = "an error of the fake card";
  return kSuccess;
}
int cuDeviceGetCount(int* count) {
  *count = VisibleCards();
  return kSuccess;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < VisibleCards() ? kSuccess : kInvalidDevice;
}
int cuDeviceGetName(char* name, int size, int) {
  std::strncpy(name, "Fake card", static_cast<size_t>(size));
  return kSuccess;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  const int64_t capability = Number("capability", 90);
  const std::map<int, int64_t> values = {
      {16, 132},                        // multiprocessors
      {20, Number("compute_mode", 0)},  // 0 default, 2 prohibited, 3 one process
      {38, 50 << 20},                   // L2
      {75, capability / 10},            //
      {76, capability % 10},            //
      {97, 227 << 10},                  // shared memory of a block
  };
  const auto found = values.find(attribute);
  if (found == values.end()) return kInvalid;
  *value = static_cast<int>(found->second);
  return kSuccess;
}
int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = static_cast<size_t>(TotalBytes());
  return kSuccess;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &memory_sizes;
  return static_cast<int>(Number("retain", kSuccess));
}
int cuDevicePrimaryCtxRelease_v2(int) {
  return kSuccess;
}
int cuCtxSetCurrent(void*) {
  return kSuccess;
}
int cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  *free_bytes = static_cast<size_t>(FreeBytes());
  *total_bytes = static_cast<size_t>(TotalBytes());
  return kSuccess;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  if (static_cast<int64_t>(bytes) > FreeBytes()) return kOutOfMemory;
  void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (memory == nullptr) return kOutOfMemory;
  memory_sizes[memory] = bytes;
  memory_used += static_cast<int64_t>(bytes);
  *address = reinterpret_cast<uint64_t>(memory);
  return kSuccess;
}
int cuMemFree_v2(uint64_t address) {
  const std::lock_guard<std::mutex> lock(memory_mutex);
  const auto found = memory_sizes.find(reinterpret_cast<void*>(address));
  if (found == memory_sizes.end()) return kInvalid;
  memory_used -= static_cast<int64_t>(found->second);
  std::free(found->first);
  memory_sizes.erase(found);
  return kSuccess;
}
int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes, void*) {
  std::memset(reinterpret_cast<void*>(address), value, bytes);
  return Alive();
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return Alive();
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return Alive();
}
int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory == nullptr ? kOutOfMemory : kSuccess;
}
int cuMemFreeHost(void* memory) {
  std::free(memory);
  return kSuccess;
}
int cuMemHostGetDevicePointer_v2(uint64_t* address, void* memory, unsigned) {
  *address = reinterpret_cast<uint64_t>(memory);
  return kSuccess;
}
int cuStreamCreate(void** stream, unsigned) {
  *stream = &memory_sizes;
  return kSuccess;
}
int cuStreamDestroy_v2(void*) {
  return kSuccess;
}
int cuStreamSynchronize(void*) {
  return Alive();
}
int cuStreamQuery(void*) {
  if (Number("lost_while_waited_for", 0) != 0) lost = true;
  return Alive();
}
int cuEventCreate(void** event, unsigned) {
  *event = &memory_sizes;
  return kSuccess;
}
int cuEventDestroy_v2(void*) {
  return kSuccess;
}
int cuEventRecord(void*, void*) {
  return Alive();
}
int cuEventSynchronize(void*) {
  return Alive();
}
int cuTensorMapEncodeTiled(void*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*,
                           const uint32_t*, int, int, int, int) {
  return kSuccess;
}
int cuOccupancyMaxActiveClusters(int* clusters, void*, const void*) {
  *clusters = 16;
  return kSuccess;
}
int cuModuleLoadData(void** module, const void*) {
  *module = &memory_sizes;
  return static_cast<int>(Number("load", kSuccess));
}
// For PTX: text, or the driver would not know where it ends.
int cuModuleLoadDataEx(void** module, const void* image, unsigned count, const int* options, void** values) {
  *module = &memory_sizes;
  if (std::strstr(static_cast<const char*>(image), ".version ") == nullptr) return kInvalid;
  const int result = static_cast<int>(Number("ptx", kSuccess));
  constexpr int kErrorLog = 5;
  for (unsigned i = 0; result != kSuccess && i < count; ++i) {
    if (options[i] == kErrorLog) std::strcpy(static_cast<char*>(values[i]), "ptxas fatal: of the fake card");
  }
  return result;
}
int cuModuleUnload(void*) {
  return kSuccess;
}
int cuModuleGetFunction(void** function, void*, const char*) {
  *function = &memory_sizes;
  return kSuccess;
}
int cuFuncSetAttribute(void*, int, int) {
  return kSuccess;
}
int cuLaunchKernelEx(const void*, void*, void**, void**) {
  const int64_t most = Number("launches_until_loss", -1);
  if (most >= 0 && launches++ >= most) lost = true;
  return Alive();
}
int cuStreamBeginCapture_v2(void*, int) {
  return Alive();
}
int cuStreamEndCapture(void*, void** graph) {
  *graph = &memory_sizes;
  return Alive();
}
int cuGraphInstantiateWithFlags(void** exec, void*, unsigned long long) {
  *exec = &memory_sizes;
  return Alive();
}
int cuGraphLaunch(void*, void*) {
  return Alive();
}
int cuGraphExecDestroy(void*) {
  return kSuccess;
}
int cuGraphDestroy(void*) {
  return kSuccess;
}

}  // extern "C"
