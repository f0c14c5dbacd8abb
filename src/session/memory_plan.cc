#include "session/memory_plan.h"

#include <algorithm>
#include <map>
#include <string>

#include "abi/kernel_abi.h"
#include "base/check.h"

namespace preheat::session {

int64_t MostRows(const program::Program& program, const SessionOptions& options) {
  return program.max_rows > 0 ? program.max_rows : std::max<int64_t>(1, options.piece_rows);
}

namespace {

constexpr size_t kAlignment = 4096;  // slots and layers begin on a page: no kernel shares a line with another

size_t AlignUp(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t MostLogitRows(const program::Program& program, const SessionOptions& options) {
  return program.logit_rows == program::LogitRows::kAll ? MostRows(program, options) : 1;
}

size_t WeightBytes(const std::vector<program::Program>& programs) {
  std::map<std::string, size_t> bytes;  // by name: one with a hole stands for a tensor a layer
  for (const program::Program& program : programs) {
    for (const program::Weight& weight : program.weights) {
      const std::string name = program::FillHole(weight.name, program::kNextRound, program::kThisRound);
      const bool of_layers = name.find(program::kThisRound) != std::string::npos;
      bytes[name] = weight.Bytes() * static_cast<size_t>(of_layers ? program.layers : 1);
    }
  }
  size_t all = 0;
  for (const auto& [name, size] : bytes) all += size;
  return all;
}

}  // namespace

size_t MemoryPlan::activation_bytes() const {
  size_t bytes = arena_bytes + rotary_bytes + ids_bytes + state_bytes + logits_bytes;
  for (const std::vector<size_t>& program : own_bytes) {
    for (size_t own : program) bytes += own;
  }
  return bytes;
}

MemoryPlan PlanMemory(const std::vector<program::Program>& programs, const SessionOptions& options) {
  CHECK(!programs.empty());
  const program::Program& first = programs.front();
  const program::KvLayout& kv = first.kv;
  MemoryPlan plan;
  plan.capacity = (std::max<int64_t>(1, options.capacity) + kv.position_block - 1) / kv.position_block *
                  kv.position_block;

  // A slot is as big as its biggest tenant in any program.
  std::vector<size_t> slot_bytes;
  int64_t most_rows = 1;
  int64_t most_logit_rows = 1;
  for (const program::Program& program : programs) {
    const int64_t rows = MostRows(program, options);
    most_rows = std::max(most_rows, rows);
    most_logit_rows = std::max(most_logit_rows, MostLogitRows(program, options));
    slot_bytes.resize(std::max(slot_bytes.size(), static_cast<size_t>(program.slots)));
    std::vector<size_t>& own = plan.own_bytes.emplace_back(program.buffers.size());
    for (size_t i = 0; i < program.buffers.size(); ++i) {
      const program::Buffer& buffer = program.buffers[i];
      const auto bytes = static_cast<size_t>(buffer.extent.Bytes(rows, plan.capacity));
      if (buffer.slot == program::kOwnSlot) {
        own[i] = std::max<size_t>(1, bytes);
      } else {
        size_t& slot = slot_bytes[static_cast<size_t>(buffer.slot)];
        slot = std::max(slot, bytes);
      }
    }
  }
  for (size_t bytes : slot_bytes) {
    plan.slot_offsets.push_back(plan.arena_bytes);
    plan.arena_bytes += AlignUp(bytes);
  }
  plan.arena_bytes = std::max<size_t>(1, plan.arena_bytes);

  plan.key_bytes = AlignUp(static_cast<size_t>(kv.key_bytes.Bytes(0, plan.capacity)));
  const size_t value_bytes = AlignUp(static_cast<size_t>(kv.value_bytes.Bytes(0, plan.capacity)));
  plan.cache_bytes = std::max<size_t>(1, static_cast<size_t>(first.layers) * (plan.key_bytes + value_bytes));
  plan.rotary_bytes = std::max<size_t>(
      1, static_cast<size_t>(plan.capacity) * 2 * first.rotary.inv_freq.size() * sizeof(float));
  plan.ids_bytes = static_cast<size_t>(most_rows) * sizeof(int32_t);
  plan.state_bytes = sizeof(ph_state);
  plan.logits_bytes = static_cast<size_t>(most_logit_rows * first.vocab_size) * sizeof(float);
  plan.weight_bytes = WeightBytes(programs);
  return plan;
}

}  // namespace preheat::session
