// Launches that are links of one persistent kernel (Launch::link) -> one launch of that kernel over a table
// of them.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "device/device.h"

namespace preheat::device::cuda {

// The launch's operands, at the begin of a record of PH_MOST_OPERANDS. Throws kCorrupt where it has more.
void CopyOperands(const Launch& launch, void** to);

class JoinedLaunches {
 public:
  // Neighbouring links of one kernel become one launch; the others stay as they are. What `launches` point to
  // outlives this, and this outlives what runs.
  JoinedLaunches(Device& device, std::span<const Launch> launches);

  std::span<const Launch> launches() const { return launches_; }

 private:
  void Join(Device& device, std::span<const Launch> links);

  std::vector<Launch> launches_;
  struct Table {
    Buffer buffer;
    void* operands[1] = {};
    ph_args args{};
  };
  std::deque<Table> tables_;  // launches point into them
};

}  // namespace preheat::device::cuda
