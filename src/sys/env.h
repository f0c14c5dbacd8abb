// Environment variables and the folders that they name. Reading is thread-safe as long as nobody calls
// setenv.
#pragma once

#include <optional>
#include <string>

namespace preheat::sys {

// An empty variable counts as none.
std::optional<std::string> GetEnv(const char* name);
// As it is set: an empty variable is an empty text. For those to which that means something.
std::optional<std::string> GetEnvAsSet(const char* name);
// HOME, else the user database's; throws kNotFound where neither says.
std::string HomeDir();
// "~" and "~/x" with HomeDir() for the tilde; other paths as they are.
std::string ExpandUser(const std::string& path);
// TMPDIR, else /tmp. Made where it is missing.
std::string TempDir();

// A new, empty folder that only this user may enter; removed with all in it by the destructor.
class UniqueTempDir {
 public:
  // TempDir()/PREFIX-xxxxxx.
  explicit UniqueTempDir(const std::string& prefix = "preheat");
  ~UniqueTempDir();
  UniqueTempDir(UniqueTempDir&& other) noexcept;
  UniqueTempDir& operator=(UniqueTempDir&&) = delete;
  UniqueTempDir(const UniqueTempDir&) = delete;
  UniqueTempDir& operator=(const UniqueTempDir&) = delete;

  const std::string& path() const { return path_; }
  // path()/NAME.
  std::string File(const std::string& name) const;
  // Leaves the folder behind, e.g. to show a source that failed to compile.
  void Keep() { path_.clear(); }

 private:
  std::string path_;
};

}  // namespace preheat::sys
