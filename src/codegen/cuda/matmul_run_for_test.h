// For tests: a Matmul region's CUDA kernels run on the host, on the operands of MatmulData.
#pragma once

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "abi/kernel_abi.h"
#include "codegen/cuda/cuda_unit_for_test.h"
#include "codegen/cuda/host_boxes_for_test.h"
#include "codegen/matmul_for_test.h"

namespace preheat::codegen::cuda {

struct HostParameters {
  ph_gpu_args args{};
  struct alignas(64) Map {
    std::byte bytes[128] = {};
  };
  std::array<Map, program::TensorMap::kMost> maps{};
};

// The launch's parameters on d's operands. A map of x covers d.rows rows and `more_rows` behind them.
inline HostParameters ParametersOf(MatmulData& d, const RegionLaunch& launch, int64_t more_rows) {
  HostParameters parameters;
  ph_gpu_args& args = parameters.args;
  for (size_t i = 0; i < launch.operands.size(); ++i) args.operands[i] = d.Pointer(launch.operands[i]);
  args.rows = d.rows;
  args.past = d.past;
  args.capacity = d.capacity;
  args.tiles = launch.tiles.Tiles(d.rows, d.past);
  for (size_t m = 0; m < launch.tensor_maps.size(); ++m) {
    const program::TensorMap& map = launch.tensor_maps[m];
    std::vector<uint64_t> extents, strides;
    std::vector<uint32_t> box;
    for (const program::TensorMap::Dim& dim : map.dims) {
      extents.push_back(static_cast<uint64_t>(dim.extent == 0 ? d.rows + more_rows : dim.extent));
      if (!box.empty()) strides.push_back(static_cast<uint64_t>(dim.stride_bytes));
      box.push_back(static_cast<uint32_t>(dim.box));
    }
    const auto made = MakeHostTensorMap({.address = args.operands[map.operand],
                                         .element_bytes = static_cast<int>(tensor::Bytes(map.element)),
                                         .swizzle_bytes = map.swizzle_bytes,
                                         .extents = extents,
                                         .strides = strides,
                                         .box = box});
    EXPECT_TRUE(made.has_value()) << "the driver would refuse tensor map " << m;
    if (made) std::memcpy(parameters.maps[m].bytes, &*made, sizeof(*made));
  }
  return parameters;
}

struct CudaRun {
  uint64_t seed = 0;
  int64_t more_rows = 0;  // behind the valid ones, of NaN, that maps cover
  int multiprocessors = 3;
};

// Runs all launches. What went wrong, or "".
inline std::string RunCuda(MatmulData& d, const CudaUnitForTest& unit, const RegionCode& code,
                           const CudaRun& how) {
  for (size_t w = 0; w < code.workspaces.size(); ++w) {
    const auto bytes = code.workspaces[w].extent.Bytes(d.max_rows, d.capacity);
    d.workspaces.emplace(static_cast<int>(w), Matrix::Dense(DType::kF32, 1, (bytes + 63) / 64 * 16));
  }
  for (const RegionLaunch& launch : code.launches) {
    const HostParameters parameters = ParametersOf(d, launch, how.more_rows);
    const auto kernel = unit.Find(launch.entry);
    if (!kernel) return "no kernel " + launch.entry + ": " + unit.log();
    int64_t blocks = parameters.args.tiles;
    const int cluster = std::max(1, launch.blocks.cluster);
    if (launch.blocks.blocks_per_sm > 0) {
      blocks = std::min<int64_t>(blocks, int64_t{launch.blocks.blocks_per_sm} * how.multiprocessors);
      blocks = std::max<int64_t>(cluster, blocks / cluster * cluster);
    }
    const HostRun run = unit.Run(
        launch.entry, {.grid = static_cast<int>(blocks),
                       .threads = launch.blocks.threads,
                       .shared_bytes = static_cast<int>(launch.blocks.shared_bytes),
                       .params = std::as_bytes(std::span(&parameters, 1)).first(kernel->bounds->params_bytes),
                       .seed = how.seed,
                       .cluster = cluster});
    if (!run.error.empty()) return run.error;
  }
  return "";
}

}  // namespace preheat::codegen::cuda
