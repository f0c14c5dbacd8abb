#include "session/bound_program.h"

#include <utility>

#include "base/check.h"
#include "session/tensor_maps.h"

namespace preheat::session {
namespace {

std::string WeightName(const std::string& pattern, int64_t layer, int64_t layers) {
  const int64_t next = layer + 1 < layers ? layer + 1 : 0;
  const std::string name = program::FillHole(pattern, program::kThisRound, std::to_string(layer));
  return program::FillHole(name, program::kNextRound, std::to_string(next));
}

}  // namespace

BoundProgram::BoundProgram(program::Program program, int64_t most_rows, const device::Device& device,
                           const Addresses& addresses, const Bindings& bindings, const KernelLookup& kernel)
    : program_(std::move(program)), most_rows_(most_rows), device_(device) {
  size_t launches = 0;
  size_t operands = 0;
  for (const program::Segment& segment : program_.segments) {
    for (const program::Launch& launch : segment.launches) {
      launches += static_cast<size_t>(segment.repeat);
      operands += static_cast<size_t>(segment.repeat) * launch.operands.size();
    }
  }
  // Launches point into args_ and tensor_maps_, args_ into operands_: none may move.
  launches_.reserve(launches);
  records_.reserve(launches);
  args_.reserve(launches);
  operands_.reserve(operands);
  tensor_maps_.reserve(launches);
  for (const program::Segment& segment : program_.segments) {
    for (int64_t layer = segment.first; layer < segment.first + segment.repeat; ++layer) {
      for (const program::Launch& launch : segment.launches) {
        BindLaunch(launch, layer, addresses, bindings, kernel);
        launches_.back().round = static_cast<int>(layer);
      }
    }
  }
}

void BoundProgram::BindLaunch(const program::Launch& launch, int64_t layer, const Addresses& addresses,
                              const Bindings& bindings, const KernelLookup& kernel) {
  void* const* operands = operands_.data() + operands_.size();
  for (const program::Operand& operand : launch.operands) {
    operands_.push_back(Address(operand, layer, addresses, bindings));
  }
  args_.push_back({.operands = operands,
                   .constants = launch.constants.data(),
                   .rows = 0,
                   .past = 0,
                   .capacity = 0,
                   .state = addresses.state});
  tensor_maps_.push_back(EncodeTensorMaps(device_, launch.tensor_maps, operands, most_rows_));
  launches_.push_back(
      {.kernel = kernel(launch, launch.entry),
       .stage = launch.stage_entry.empty() ? device::Kernel{} : kernel(launch, launch.stage_entry),
       .args = &args_.back(),
       .operands = static_cast<int64_t>(launch.operands.size()),
       .tiles = 0,
       .chunk = launch.chunk,
       .blocks = launch.blocks,
       .tensor_maps = tensor_maps_.back(),
       .link = launch.link});
  records_.push_back(&launch);
  calls_libraries_ = calls_libraries_ || launch.code.starts_with(program::kLibraryPrefix);
}

// Kernels only read weights; the operand table has one type for all.
void* BoundProgram::WeightAddress(size_t index, int64_t layer, const Bindings& bindings) const {
  const program::Weight& weight = program_.weights[index];
  return const_cast<void*>(bindings.weight(WeightName(weight.name, layer, program_.layers), weight));
}

void* BoundProgram::Address(const program::Operand& operand, int64_t layer, const Addresses& addresses,
                            const Bindings& bindings) const {
  using Kind = program::Operand::Kind;
  const auto index = static_cast<size_t>(operand.index);
  switch (operand.kind) {
    case Kind::kWeight:
      return WeightAddress(index, layer, bindings);
    case Kind::kBuffer: {
      const int slot = program_.buffers[index].slot;
      if (slot == program::kOwnSlot) return addresses.own[index];
      return addresses.activations + addresses.slot_offsets[static_cast<size_t>(slot)];
    }
    case Kind::kKeyCache:
      return addresses.cache + static_cast<size_t>(layer) * addresses.layer_cache_bytes;
    case Kind::kValueCache:
      return addresses.cache + static_cast<size_t>(layer) * addresses.layer_cache_bytes + addresses.key_bytes;
    case Kind::kRotary:
      return addresses.rotary;
    case Kind::kIds:
      // The token chosen last is the next step's only id.
      return program_.kind == program::StepKind::kDecode ? &addresses.state->token : addresses.ids;
    case Kind::kState:
      return addresses.state;
    case Kind::kLogits:
      return addresses.logits;
  }
  CHECK(false);
}

std::span<const device::Launch> BoundProgram::Prepare(int64_t rows, int64_t past, int64_t capacity) {
  for (size_t i = 0; i < launches_.size(); ++i) {
    args_[i].rows = rows;
    args_[i].past = past;
    args_[i].capacity = capacity;
    launches_[i].tiles = records_[i]->tiles.Tiles(rows, past);
  }
  return launches_;
}

std::span<const device::Launch> BoundProgram::PrepareToRecord(int64_t capacity) {
  Prepare(1, 0, capacity);
  for (ph_args& args : args_) args.rows = 0;
  return launches_;
}

}  // namespace preheat::session
