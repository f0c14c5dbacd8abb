// A program with every operand resolved to an address: what a step walks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "program/program.h"
#include "session/session.h"

namespace preheat::session {

// Where operands point. Slots are byte offsets into `activations`.
struct Addresses {
  std::byte* activations = nullptr;
  std::vector<size_t> slot_offsets;
  std::vector<std::byte*> own;  // by buffer: memory of those of slot kOwnSlot
  std::byte* cache = nullptr;
  size_t layer_cache_bytes = 0;  // keys, then values
  size_t key_bytes = 0;
  void* rotary = nullptr;
  void* ids = nullptr;
  ph_state* state = nullptr;
  void* logits = nullptr;
};

// Kernels by launch: from loaded code images or from library modules.
using KernelLookup = std::function<device::Kernel(const program::Launch& launch, const std::string& entry)>;

class BoundProgram {
 public:
  // `most_rows`: that a step is given.
  BoundProgram(program::Program program, int64_t most_rows, const device::Device& device,
               const Addresses& addresses, const Bindings& bindings, const KernelLookup& kernel);
  BoundProgram(const BoundProgram&) = delete;
  BoundProgram& operator=(const BoundProgram&) = delete;

  const program::Program& program() const { return program_; }
  bool CallsLibraries() const { return calls_libraries_; }
  // The launches of a step over `rows` tokens after `past` positions; valid until the next call.
  std::span<const device::Launch> Prepare(int64_t rows, int64_t past, int64_t capacity);
  // The launches of every decode step, whose kernels take position and token from the state.
  std::span<const device::Launch> PrepareToRecord(int64_t capacity);

 private:
  void BindLaunch(const program::Launch& launch, int64_t layer, const Addresses& addresses,
                  const Bindings& bindings, const KernelLookup& kernel);
  void* WeightAddress(size_t index, int64_t layer, const Bindings& bindings) const;
  void* Address(const program::Operand& operand, int64_t layer, const Addresses& addresses,
                const Bindings& bindings) const;

  program::Program program_;
  int64_t most_rows_;
  const device::Device& device_;
  std::vector<device::Launch> launches_;
  std::vector<const program::Launch*> records_;  // one for each of launches_
  std::vector<ph_args> args_;
  std::vector<void*> operands_;
  std::vector<std::vector<device::TensorMap>> tensor_maps_;
  bool calls_libraries_ = false;
};

}  // namespace preheat::session
