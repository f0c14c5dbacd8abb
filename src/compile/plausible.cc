#include "compile/plausible.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace preheat::compile {

void FillPlausibly(device::Device& device, const device::Buffer& buffer) {
  constexpr size_t kPatternBytes = size_t{1} << 20;
  uint32_t random = 0x9e3779b9;
  std::vector<uint32_t> pattern(std::min(buffer.size(), kPatternBytes) / 4);
  for (uint32_t& bits : pattern) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    bits = (random & 0x807f807f) | 0x3c003c00;
  }
  const auto bytes = std::as_bytes(std::span(pattern));
  for (size_t done = 0; done < buffer.size() && !bytes.empty(); done += bytes.size()) {
    device.Write(buffer.data() + done, bytes.first(std::min(bytes.size(), buffer.size() - done)));
  }
}

}  // namespace preheat::compile
