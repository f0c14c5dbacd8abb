#include "preload/counters.h"

namespace preheat::preload {
namespace {

// `change(a, b)` for each counter of two.
template <typename Change>
void ForEach(CompileCounters& a, const CompileCounters& b, Change change) {
  change(a.unique_graphs, b.unique_graphs);
  change(a.calls_captured, b.calls_captured);
  change(a.async_compile_miss, b.async_compile_miss);
  change(a.async_compile_hit, b.async_compile_hit);
  change(a.fxgraph_cache_miss, b.fxgraph_cache_miss);
  change(a.fxgraph_cache_hit, b.fxgraph_cache_hit);
  change(a.aot_cache_miss, b.aot_cache_miss);
  change(a.aot_cache_hit, b.aot_cache_hit);
  change(a.driver_compile, b.driver_compile);
}

}  // namespace

CompileCounters& CompileCounters::operator+=(const CompileCounters& more) {
  ForEach(*this, more, [](int64_t& sum, int64_t counted) { sum += counted; });
  return *this;
}

CompileCounters CompileCounters::operator-(const CompileCounters& earlier) const {
  CompileCounters since = *this;
  ForEach(since, earlier, [](int64_t& left, int64_t counted) { left -= counted; });
  return since;
}

}  // namespace preheat::preload
