#include "device/cuda/links.h"

#include <algorithm>

#include "base/error.h"

namespace preheat::device::cuda {

void CopyOperands(const Launch& launch, void** to) {
  if (launch.operands > PH_MOST_OPERANDS) {
    throw base::MakeError(
        base::ErrorKind::kCorrupt,
        "a program's launch has {} operands and a kernel takes {}; build the artifact again", launch.operands,
        PH_MOST_OPERANDS);
  }
  std::copy_n(launch.args->operands, launch.operands, to);
}

JoinedLaunches::JoinedLaunches(Device& device, std::span<const Launch> launches) {
  for (size_t i = 0; i < launches.size();) {
    if (launches[i].link == 0) {
      launches_.push_back(launches[i++]);
      continue;
    }
    size_t end = i;
    while (end < launches.size() && launches[end].link != 0 && launches[end].kernel == launches[i].kernel)
      ++end;
    Join(device, launches.subspan(i, end - i));
    i = end;
  }
}

void JoinedLaunches::Join(Device& device, std::span<const Launch> links) {
  std::vector<ph_link> records;
  int64_t blocks = links.front().tiles;
  for (const Launch& link : links) {
    ph_link& record = records.emplace_back();
    record = {.operands = {}, .kind = link.link - 1, .round = link.round};
    CopyOperands(link, record.operands);
    blocks = std::min(blocks, link.tiles);
  }
  Table& table = tables_.emplace_back();
  table.buffer = device.Allocate(records.size() * sizeof(ph_link));
  device.Write(table.buffer.data(), std::as_bytes(std::span(records)));
  table.operands[0] = table.buffer.data();
  table.args = *links.front().args;
  table.args.operands = table.operands;
  Launch launch = links.front();
  launch.args = &table.args;
  launch.operands = 1;
  launch.tiles = static_cast<int64_t>(records.size());
  launch.most_blocks = blocks;
  launches_.push_back(launch);
}

}  // namespace preheat::device::cuda
