// A shared library opened at run time: how the NVIDIA driver, NVRTC and cuBLASLt are reached without being
// linked.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace preheat::sys {

class DynamicLibrary {
 public:
  // The first of `names` (sonames or paths) that opens, or nullopt; `reason`, where given, then says why each
  // did not.
  static std::optional<DynamicLibrary> Open(const std::vector<std::string>& names,
                                            std::string* reason = nullptr);
  ~DynamicLibrary();  // closes: pointers from Symbol are dead then
  DynamicLibrary(DynamicLibrary&& other) noexcept;
  DynamicLibrary& operator=(DynamicLibrary&& other) noexcept;
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  // The name that opened.
  const std::string& name() const { return name_; }

  // A function or object of the library; null where it has none of that name. T is a pointer type:
  //   auto* init = library.Symbol<int (*)(unsigned)>("cuInit");
  template <typename T>
  T Symbol(const char* symbol) const {
    return reinterpret_cast<T>(Find(symbol));
  }

  // The file that the library was loaded from, or "" where unknown.
  std::string FilePath(const char* any_symbol) const;

  // Keeps it open for good: for libraries that must not be unloaded (they start threads or register exit
  // handlers).
  void KeepOpen() { keep_open_ = true; }

 private:
  DynamicLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void* Find(const char* symbol) const;

  void* handle_ = nullptr;
  bool keep_open_ = false;
  std::string name_;
};

// Fills a table of functions from a library, null where it lacks one:
//   SymbolFinder find(library);
//   find(driver.Init, "cuInit");
class SymbolFinder {
 public:
  explicit SymbolFinder(const DynamicLibrary& library) : library_(library) {}

  template <typename Function>
  void operator()(Function& function, const char* symbol) {
    function = library_.Symbol<Function>(symbol);
    if (function == nullptr && missing_.empty()) missing_ = symbol;
  }
  bool found_all() const { return missing_.empty(); }
  // For messages: ", without cuInit" names the first that was missing; "" where none was.
  std::string WithoutText() const { return found_all() ? "" : ", without " + missing_; }

 private:
  const DynamicLibrary& library_;
  std::string missing_;
};

}  // namespace preheat::sys
