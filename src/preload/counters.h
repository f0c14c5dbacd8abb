// Counts of compiling and of finding what was compiled, as users of torch.compile know them.
#pragma once

#include <cstdint>

namespace preheat::preload {

// What was compiled and what was found, in torch's names: async_* kernels, fxgraph_* fused regions, aot_*
// programs.
struct CompileCounters {
  int64_t unique_graphs = 0;
  int64_t calls_captured = 0;
  int64_t async_compile_miss = 0;
  int64_t async_compile_hit = 0;
  int64_t fxgraph_cache_miss = 0;
  int64_t fxgraph_cache_hit = 0;
  int64_t aot_cache_miss = 0;
  int64_t aot_cache_hit = 0;
  int64_t driver_compile = 0;  // ours: units of PTX, which a card's driver compiles; they count as no hit

  bool Compiled() const {
    return async_compile_miss + fxgraph_cache_miss + aot_cache_miss + unique_graphs + driver_compile > 0;
  }
  CompileCounters& operator+=(const CompileCounters& more);
  CompileCounters operator-(const CompileCounters& earlier) const;
  bool operator==(const CompileCounters&) const = default;
};

}  // namespace preheat::preload
