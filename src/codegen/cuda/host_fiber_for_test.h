// Fibers: what runs a CUDA thread on the host. A switch saves the registers that a call keeps and nothing
// else (no signal mask, no floating-point control): a few nanoseconds. x86-64. AddressSanitizer is told of
// each switch; ThreadSanitizer is not supported.
#pragma once

#include <cstddef>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define PREHEAT_FIBERS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PREHEAT_FIBERS_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define PREHEAT_FIBERS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PREHEAT_FIBERS_TSAN 1
#endif
#endif

namespace preheat::codegen::cuda {

// A context that may be switched to: a fiber's, or the one that runs them.
struct Fiber {
  void* stack_pointer = nullptr;
  std::byte* stack = nullptr;  // its lowest byte
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

// Stacks, used again and again; their pages cost memory once touched. Throws kIo where there is no memory.
class FiberStacks {
 public:
  // Instrumented frames are several times bigger.
  static constexpr size_t kStackBytes = 128 << 10;

  FiberStacks() = default;
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  // `fiber` on stack `index`, about to call `entry`, which never returns.
  void Prepare(Fiber& fiber, int index, void (*entry)());
  // Whether the end of the stack is as it was: no overflow.
  static bool Intact(const Fiber& fiber);

 private:
  struct Region {
    std::byte* bytes = nullptr;
    size_t size = 0;
  };
  static constexpr int kStacksPerRegion = 256;

  std::vector<Region> regions_;
};

// Continues `to`; returns when something switches back to `from`.
void SwitchFiber(Fiber& from, Fiber& to);
// The first thing that a fiber's entry does. `runner`: what switched to it.
void EnterFiber(Fiber& runner);
// The last.
[[noreturn]] void LeaveFiber(Fiber& fiber, Fiber& to);

}  // namespace preheat::codegen::cuda
