#include "codegen/cuda/host_fiber_for_test.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

#ifdef PREHEAT_FIBERS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void preheat_switch_fiber(void** from, void* to);

// System V ABI: rbx, rbp and r12 to r15 belong to the caller.
asm(R"(
.text
.type preheat_switch_fiber, @function
preheat_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size preheat_switch_fiber, .-preheat_switch_fiber
)");

namespace preheat::codegen::cuda {
namespace {

constexpr uint64_t kCanary = 0x5ca1ab1e0ddba11u;
constexpr int kCanaries = 8;

}  // namespace

FiberStacks::~FiberStacks() {
  for (const Region& region : regions_) munmap(region.bytes, region.size);
}

void FiberStacks::Prepare(Fiber& fiber, int index, void (*entry)()) {
  const auto wanted = static_cast<size_t>(index / kStacksPerRegion);
  while (regions_.size() <= wanted) {
    constexpr size_t kSize = kStackBytes * kStacksPerRegion;
    void* bytes =
        mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bytes == MAP_FAILED) {
      throw base::MakeError(base::ErrorKind::kIo, "stacks for {} CUDA threads: no memory", index + 1);
    }
    madvise(bytes, kSize, MADV_NOHUGEPAGE);
    regions_.push_back({static_cast<std::byte*>(bytes), kSize});
  }
  fiber.stack = regions_[wanted].bytes + static_cast<size_t>(index % kStacksPerRegion) * kStackBytes;
  fiber.stack_bytes = kStackBytes;
  fiber.fake_stack = nullptr;
#ifdef PREHEAT_FIBERS_ASAN
  // A fiber that was abandoned half-way left its frames poisoned.
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
  for (int i = 0; i < kCanaries; ++i) std::memcpy(fiber.stack + 8 * i, &kCanary, 8);
  // What preheat_switch_fiber pops: six registers and where to return to. A function starts with the stack 8
  // bytes below a multiple of 16.
  void* frame[8] = {};
  frame[6] = reinterpret_cast<void*>(entry);
  // Stacks that all begin at the same place of a page would share a few sets of the cache.
  const size_t colour = static_cast<size_t>(index % 61) * 192;
  std::byte* top = fiber.stack + fiber.stack_bytes - colour - sizeof frame;
  std::memcpy(top, static_cast<const void*>(frame), sizeof frame);
  fiber.stack_pointer = top;
}

bool FiberStacks::Intact(const Fiber& fiber) {
  for (int i = 0; i < kCanaries; ++i) {
    if (std::memcmp(fiber.stack + 8 * i, &kCanary, 8) != 0) return false;
  }
  return true;
}

void SwitchFiber(Fiber& from, Fiber& to) {
#ifdef PREHEAT_FIBERS_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
  preheat_switch_fiber(&from.stack_pointer, to.stack_pointer);
#ifdef PREHEAT_FIBERS_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void EnterFiber([[maybe_unused]] Fiber& runner) {
#ifdef PREHEAT_FIBERS_ASAN
  const void* stack = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &runner.stack_bytes);
  runner.stack = static_cast<std::byte*>(const_cast<void*>(stack));
#endif
}

void LeaveFiber(Fiber& fiber, Fiber& to) {
#ifdef PREHEAT_FIBERS_ASAN
  __sanitizer_start_switch_fiber(nullptr, to.stack, to.stack_bytes);
#endif
  preheat_switch_fiber(&fiber.stack_pointer, to.stack_pointer);
  CHECK(false);
  __builtin_unreachable();
}

}  // namespace preheat::codegen::cuda
