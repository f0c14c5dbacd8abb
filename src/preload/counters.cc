#include "preload/counters.h"

namespace preheat::preload {

CompileCounters CompileCounters::operator-(const CompileCounters& earlier) const {
  return {.unique_graphs = unique_graphs - earlier.unique_graphs,
          .calls_captured = calls_captured - earlier.calls_captured,
          .async_compile_miss = async_compile_miss - earlier.async_compile_miss,
          .async_compile_hit = async_compile_hit - earlier.async_compile_hit,
          .fxgraph_cache_miss = fxgraph_cache_miss - earlier.fxgraph_cache_miss,
          .fxgraph_cache_hit = fxgraph_cache_hit - earlier.fxgraph_cache_hit,
          .aot_cache_miss = aot_cache_miss - earlier.aot_cache_miss,
          .aot_cache_hit = aot_cache_hit - earlier.aot_cache_hit};
}

}  // namespace preheat::preload
