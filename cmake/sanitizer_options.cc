// Linked into every program of a sanitized build: the options that the sanitizers ask the program for. So a
// test or a binary that is started by hand, or by another test, behaves as under ctest. The environment's
// ASAN_OPTIONS are read afterwards and win.

extern "C" const char preheat_sanitizer_options = 0;  // what the linker is told to look for

#if defined(__SANITIZE_ADDRESS__)
#define PREHEAT_ADDRESS_SANITIZER
#elif defined(__SANITIZE_THREAD__)
#define PREHEAT_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PREHEAT_ADDRESS_SANITIZER
#elif __has_feature(thread_sanitizer)
#define PREHEAT_THREAD_SANITIZER
#endif
#endif

#ifdef PREHEAT_ADDRESS_SANITIZER
// The runtime guesses the bounds of a library's thread-local block from what stands before it in memory, as
// glibc 2.19 laid it out. Whether the guess misfires is chance, for oneDNN's threads it always does: the leak
// check at the end then reads at a wild address and dies. Without the guess leaks are still found; pointers
// that only a thread-local variable of an opened library holds would be taken for leaks, and there are none.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
  return "intercept_tls_get_addr=0";
}
#endif

#ifdef PREHEAT_THREAD_SANITIZER
// oneDNN, its thread runtime and NVRTC are not instrumented: how they order their own reads and writes cannot
// be seen, but the memcpy, malloc, free and locks that they call can. What our code does with them is checked
// all the same: eager/module/parallel.h says where the runtime orders it.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_suppressions() {
  return "called_from_lib:libdnnl.so\n"
         "called_from_lib:libgomp.so\n"
         "called_from_lib:libnvrtc.so\n";
}
#endif
