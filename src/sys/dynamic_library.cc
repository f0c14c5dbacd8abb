#include "sys/dynamic_library.h"

#include <dlfcn.h>

namespace preheat::sys {

std::optional<DynamicLibrary> DynamicLibrary::Open(const std::vector<std::string>& names,
                                                   std::string* reason) {
  std::string tried;
  for (const std::string& name : names) {
    if (void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return DynamicLibrary(handle, name);
    const char* text = ::dlerror();
    if (!tried.empty()) tried += "; ";
    tried += text != nullptr ? text : name;
  }
  if (reason != nullptr) *reason = tried;
  return std::nullopt;
}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr && !keep_open_) ::dlclose(handle_);
}

DynamicLibrary::DynamicLibrary(DynamicLibrary&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      keep_open_(other.keep_open_),
      name_(std::move(other.name_)) {}

DynamicLibrary& DynamicLibrary::operator=(DynamicLibrary&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(keep_open_, other.keep_open_);
  std::swap(name_, other.name_);
  return *this;
}

std::string DynamicLibrary::FilePath(const char* any_symbol) const {
  Dl_info info;
  void* address = Find(any_symbol);
  if (address == nullptr || ::dladdr(address, &info) == 0 || info.dli_fname == nullptr) return "";
  return info.dli_fname;
}

void* DynamicLibrary::Find(const char* symbol) const {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, symbol);
}

}  // namespace preheat::sys
