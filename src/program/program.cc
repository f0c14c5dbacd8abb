#include "program/program.h"

#include <algorithm>

namespace preheat::program {

int64_t TileCount::Tiles(int64_t rows, int64_t past) const {
  int64_t x = 1;
  switch (per) {
    case Per::kStep:
      break;
    case Per::kRows:
      x = rows;
      break;
    case Per::kPositions:
      x = past + rows;
      break;
  }
  return count * ((x + block - 1) / block);
}

std::string FillHole(std::string name, std::string_view hole, std::string_view with) {
  const size_t at = name.find(hole);
  if (at != std::string::npos) name.replace(at, hole.size(), with);
  return name;
}

size_t Weight::Bytes() const {
  size_t bytes = tensor::Bytes(dtype);
  for (const int64_t extent : shape) bytes *= static_cast<size_t>(extent);
  return bytes;
}

std::vector<std::string> CodeHashes(const Program& program) {
  std::vector<std::string> hashes;
  for (const Segment& segment : program.segments) {
    for (const Launch& launch : segment.launches) {
      if (launch.code.starts_with(kLibraryPrefix)) continue;
      if (std::find(hashes.begin(), hashes.end(), launch.code) == hashes.end()) hashes.push_back(launch.code);
    }
  }
  return hashes;
}

std::set<std::string> RegionNames(const Program& program) {
  std::set<std::string> regions;
  for (const Segment& segment : program.segments) {
    for (const Launch& launch : segment.launches) regions.insert(launch.region);
  }
  return regions;
}

}  // namespace preheat::program
