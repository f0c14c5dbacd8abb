#include "session/tensor_maps.h"

namespace preheat::session {

std::vector<device::TensorMap> EncodeTensorMaps(const device::Device& device,
                                                const std::vector<program::TensorMap>& maps,
                                                void* const* operands, int64_t rows) {
  std::vector<device::TensorMap> encoded;
  for (const program::TensorMap& map : maps) {
    device::BoxTensor tensor = {.address = operands[map.operand],
                                .element = map.element,
                                .swizzle_bytes = map.swizzle_bytes,
                                .dims = {}};
    for (const program::TensorMap::Dim& dim : map.dims) {
      tensor.dims.push_back({dim.extent == 0 ? rows : dim.extent, dim.stride_bytes, dim.box});
    }
    encoded.push_back(device.EncodeTensorMap(tensor));
  }
  return encoded;
}

}  // namespace preheat::session
