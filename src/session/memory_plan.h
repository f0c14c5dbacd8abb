// How much device memory a session takes and how it lies, from programs alone: a session allocates by it, and
// `preheat inspect` tells it before anything runs. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "program/program.h"

namespace preheat::session {

struct SessionOptions {
  int64_t capacity = 0;  // positions in the KV cache; rounded up to the layout's block
  // The longest prompt piece given to a program of any length: longer prompts run in pieces.
  int64_t piece_rows = 512;
};

// The most tokens that a step of `program` is given.
int64_t MostRows(const program::Program& program, const SessionOptions& options);

struct MemoryPlan {
  int64_t capacity = 0;                        // positions, rounded up
  std::vector<size_t> slot_offsets;            // of the arena of activations
  size_t arena_bytes = 0;                      // all slots
  std::vector<std::vector<size_t>> own_bytes;  // by program and buffer; 0: the buffer has a slot
  size_t key_bytes = 0;                        // of a layer; its values follow
  size_t cache_bytes = 0;                      // all layers, keys and values
  size_t rotary_bytes = 0;
  size_t ids_bytes = 0;
  size_t state_bytes = 0;
  size_t logits_bytes = 0;
  // Of the tensors that the programs name, each once. Not a session's: they are mapped, or on a card a slab.
  size_t weight_bytes = 0;

  // All but weights and KV cache.
  size_t activation_bytes() const;
  size_t total_bytes() const { return weight_bytes + cache_bytes + activation_bytes(); }
};

// REQUIRES: at least one program; they agree on layers, vocabulary, cache and rotary table.
MemoryPlan PlanMemory(const std::vector<program::Program>& programs, const SessionOptions& options);

}  // namespace preheat::session
