#include <vector>

#include "device/cuda/cuda_device.h"
#include "device/cuda/driver.h"

namespace preheat::device {

// The driver tells it of a kernel, and any will do: the smallest there is.
std::vector<int> CudaDevice::ResidentClusters() const {
  constexpr char kKernel[] =
      ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry nothing() { ret; }\n";
  constexpr int kMostBlocks = 8;  // of a cluster, on every card
  if (info_.capability < 90) return {};
  MakeCurrent();
  cuda::Module module = nullptr;
  if (driver_.ModuleLoadData(&module, kKernel) != cuda::kSuccess) return {};
  std::vector<int> resident;
  cuda::Function function = nullptr;
  const int shared_bytes =
      static_cast<int>(info_.shared_bytes_per_block);  // a multiprocessor has no room for two
  const bool ready =
      driver_.ModuleGetFunction(&function, module, "nothing") == cuda::kSuccess &&
      driver_.FuncSetAttribute(function, cuda::kMaxDynamicSharedBytes, shared_bytes) == cuda::kSuccess;
  for (int blocks = 1; ready && blocks <= kMostBlocks; ++blocks) {
    cuda::LaunchAttribute cluster = cuda::LaunchAttribute::Cluster(static_cast<unsigned>(blocks));
    cuda::LaunchConfig config;
    config.grid[0] = static_cast<unsigned>(blocks * info_.multiprocessors);
    config.block[0] = 128;
    config.shared_bytes = static_cast<unsigned>(shared_bytes);
    config.attributes = &cluster;
    config.attribute_count = 1;
    int count = 0;
    if (driver_.OccupancyMaxActiveClusters(&count, function, &config) != cuda::kSuccess) break;
    resident.push_back(count);
  }
  driver_.ModuleUnload(module);
  return resident;
}

}  // namespace preheat::device
