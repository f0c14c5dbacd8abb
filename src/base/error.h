// Errors that a user or a caller can act on. Everything else is a bug and goes through CHECK.
//
// A message has three parts: what failed: what was found; what to do. Callers add context by
// catching, and rethrowing with WithContext. A miss (nothing there) is std::optional, not an error.
#pragma once

#include <fmt/format.h>

#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace preheat::base {

enum class ErrorKind {
  kInvalidArgument,  // the caller's or user's value is wrong: usage
  kNotFound,         // a file, folder, model or tensor that was named is not there
  kCorrupt,          // data is there, but damaged or malformed
  kIncompatible,     // well-formed, but made for another machine, model or version
  kUnsupported,      // valid, but preheat cannot do it; names the field or option
  kWouldCompile,     // something would have to be compiled where compiling is forbidden
  kToolFailed,       // a compiler or another tool failed
  kIo,               // reading or writing failed
  kDevice,           // the device or its driver failed or is missing
  kNetwork,          // the network or the hub failed
  kAccessDenied,     // not permitted
  kInterrupted,      // the user asked to stop
};

// "InvalidArgument", "NotFound", ...
std::string_view ErrorKindName(ErrorKind kind);

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  const char* what() const noexcept override { return message_.c_str(); }

  // The same error with "context: " before its message.
  Error WithContext(std::string_view context) const {
    return Error(kind_, fmt::format("{}: {}", context, message_));
  }

 private:
  ErrorKind kind_;
  std::string message_;
};

// throw MakeError(ErrorKind::kNotFound, "{}: no such file", path);
template <typename... Args>
Error MakeError(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace preheat::base
