#include "sys/env.h"

#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "sys/files.h"
#include "sys/os_error.h"

namespace preheat::sys {

std::optional<std::string> GetEnv(const char* name) {
  const char* value = ::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

std::optional<std::string> GetEnvAsSet(const char* name) {
  const char* value = ::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

std::string HomeDir() {
  if (auto home = GetEnv("HOME")) return *home;
  passwd entry;
  passwd* found = nullptr;
  char buffer[4096];
  if (::getpwuid_r(::getuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found != nullptr)
    return found->pw_dir;
  throw base::MakeError(base::ErrorKind::kNotFound, "home folder: HOME is not set; set it");
}

std::string ExpandUser(const std::string& path) {
  if (path == "~") return HomeDir();
  if (path.starts_with("~/")) return JoinPath(HomeDir(), path.substr(2));
  return path;
}

std::string TempDir() {
  const std::string folder = GetEnv("TMPDIR").value_or("/tmp");
  MakeDirs(folder);
  return folder;
}

UniqueTempDir::UniqueTempDir(const std::string& prefix) {
  std::string path = JoinPath(TempDir(), prefix + "-XXXXXX");
  if (::mkdtemp(path.data()) == nullptr) throw OsError(errno, "cannot make folder", path);
  path_ = std::move(path);
}

UniqueTempDir::~UniqueTempDir() {
  if (path_.empty()) return;
  try {
    RemoveTree(path_);
  } catch (const base::Error&) {
    // Nothing sensible is left to do with a folder that will not go.
  }
}

UniqueTempDir::UniqueTempDir(UniqueTempDir&& other) noexcept : path_(std::exchange(other.path_, "")) {}

std::string UniqueTempDir::File(const std::string& name) const {
  return JoinPath(path_, name);
}

}  // namespace preheat::sys
