#include "passes/plan_memory.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace preheat::passes {
namespace {

using program::Operand;
using program::Program;
using program::Segment;

// Launches are counted through the whole program, a repeated segment once. [first, last], empty where last <
// first.
struct Lifetime {
  int first = 0;
  int last = -1;
  bool reads_first = false;  // the first launch that names it does not only write it

  bool empty() const { return last < first; }
  bool Meets(const Lifetime& other) const {
    return !empty() && !other.empty() && first <= other.last && other.first <= last;
  }
};

std::vector<Lifetime> Lifetimes(const Program& program) {
  std::vector<Lifetime> lifetimes(program.buffers.size());
  int now = 0;
  for (const Segment& segment : program.segments) {
    for (const program::Launch& launch : segment.launches) {
      for (const Operand& operand : launch.operands) {
        if (operand.kind != Operand::Kind::kBuffer) continue;
        Lifetime& lifetime = lifetimes[static_cast<size_t>(operand.index)];
        if (lifetime.empty()) lifetime.first = now;
        if (lifetime.first == now && operand.access != Operand::Access::kWrite) lifetime.reads_first = true;
        lifetime.last = now;
      }
      ++now;
    }
  }
  return lifetimes;
}

// Extends what crosses from round to round, or the border of a segment that repeats, over all of the segment.
void CarryThroughRepeats(const Program& program, std::vector<Lifetime>& lifetimes) {
  int begin = 0;
  for (const Segment& segment : program.segments) {
    const int end = begin + static_cast<int>(segment.launches.size());  // first launch after it
    for (Lifetime& lifetime : lifetimes) {
      if (segment.repeat == 1 || lifetime.empty() || lifetime.last < begin || lifetime.first >= end) continue;
      const bool crosses = lifetime.first < begin || lifetime.last >= end || lifetime.reads_first;
      if (!crosses) continue;
      lifetime.first = std::min(lifetime.first, begin);
      lifetime.last = std::max(lifetime.last, end - 1);
    }
    begin = end;
  }
}

}  // namespace

Program PlanMemory(const Program& program) {
  std::vector<Lifetime> lifetimes = Lifetimes(program);
  CarryThroughRepeats(program, lifetimes);

  // Sizes are symbolic; they are compared at a typical prompt and context.
  const int64_t rows = program.max_rows == 0 ? 512 : program.max_rows;
  const auto bytes = [&](size_t buffer) { return program.buffers[buffer].extent.Bytes(rows, 4096); };
  std::vector<size_t> order(program.buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes(a) > bytes(b); });

  Program planned = program;
  std::vector<std::vector<size_t>> slots;  // the buffers in each
  for (size_t buffer : order) {
    if (program.buffers[buffer].slot == program::kOwnSlot) continue;
    const auto has_room = [&](const std::vector<size_t>& slot) {
      return std::none_of(slot.begin(), slot.end(),
                          [&](size_t other) { return lifetimes[buffer].Meets(lifetimes[other]); });
    };
    auto slot = std::find_if(slots.begin(), slots.end(), has_room);
    if (slot == slots.end()) slot = slots.insert(slots.end(), std::vector<size_t>{});
    slot->push_back(buffer);
    planned.buffers[buffer].slot = static_cast<int>(slot - slots.begin());
  }
  planned.slots = static_cast<int>(slots.size());
  return planned;
}

}  // namespace preheat::passes
