// Loops over oneDNN's own threads. oneDNN (Debian's) runs on GNU OpenMP; going through the same runtime's
// entry points means one team of threads, whichever compiler built this file. A loop runs on the whole team
// or on the caller alone: a team of another size would make the runtime end threads and start them again.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__SANITIZE_THREAD__)
#define PREHEAT_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PREHEAT_THREAD_SANITIZER
#endif
#endif
#ifdef PREHEAT_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

extern "C" {
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_thread_num(void);
int omp_get_num_threads(void);
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace preheat::eager {

inline int TeamSize() {
  return omp_get_max_threads();
}

// What one thread did before Published, another sees after Seen of the same address. The runtime's fork and
// join do that, but the thread sanitizer cannot see into it (Debian's is not instrumented): there these say
// so.
inline void Published([[maybe_unused]] void* at) {
#ifdef PREHEAT_THREAD_SANITIZER
  __tsan_release(at);
#endif
}
inline void Seen([[maybe_unused]] void* at) {
#ifdef PREHEAT_THREAD_SANITIZER
  __tsan_acquire(at);
#endif
}

// body(thread, threads) on every thread of the team.
template <typename Body>
void OnTeam(Body body) {
  Published(&body);
  const auto on_thread = [](void* data) {
    Seen(data);
    (*static_cast<Body*>(data))(omp_get_thread_num(), omp_get_num_threads());
    Published(data);
  };
  GOMP_parallel(on_thread, &body, 0, 0);
  Seen(&body);
}

// body(begin, end) over parts of [0, count), on the caller alone where the work, `count` times `cost`
// elements, is too small to share: waking the team costs about as much as 32 thousand elements.
template <typename Body>
void ForRange(int64_t count, int64_t cost, Body body) {
  if (count <= 1 || count * cost < 32768 || TeamSize() == 1) return body(0, count);
  OnTeam([&](int thread, int threads) {
    const int64_t begin = count * thread / threads;
    const int64_t end = count * (thread + 1) / threads;
    if (begin < end) body(begin, end);
  });
}

// body(item, thread) for each item, in order of demand.
template <typename Body>
void ForItems(int64_t count, Body body) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread, int) {
    for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(item, thread);
  };
  if (count <= 1 || TeamSize() == 1) return work(0, 1);
  OnTeam(work);
}

}  // namespace preheat::eager
