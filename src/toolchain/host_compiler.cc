#include "toolchain/host_compiler.h"

#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "sys/code_image.h"
#include "sys/env.h"
#include "sys/files.h"
#include "sys/process.h"
#include "toolchain/object_image.h"
#include "toolchain/unit_jobs.h"

namespace preheat::toolchain {
namespace {

using base::Error;
using base::ErrorKind;
using base::MakeError;

constexpr size_t kShownLines = 20;
// A hung compiler (a network file system gone) must not hang us. No unit takes a hundredth of this.
constexpr double kTimeoutSeconds = 300;

// Messages that do not depend on the user's language, and nothing from the environment that changes code.
std::vector<std::pair<std::string, std::optional<std::string>>> CompilerEnvironment() {
  std::vector<std::pair<std::string, std::optional<std::string>>> env = {{"LC_ALL", "C"}};
  for (const char* name : {"CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "SOURCE_DATE_EPOCH", "GCC_COLORS",
                           "DEPENDENCIES_OUTPUT", "CCC_OVERRIDE_OPTIONS"}) {
    env.emplace_back(name, std::nullopt);
  }
  return env;
}

// `-v` alone compiles nothing and names family, version and target in one call, in both families.
std::optional<CompilerIdentity> AskIdentity(std::vector<std::string> command) {
  command.emplace_back("-v");
  sys::SpawnOptions options;
  options.env = CompilerEnvironment();
  options.timeout_seconds = kTimeoutSeconds;
  sys::SpawnResult result;
  try {
    result = sys::Spawn(command, options);
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!result.ok()) return std::nullopt;
  CompilerIdentity identity;
  std::istringstream lines(result.err + result.out);
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && line.back() == ' ') line.pop_back();
    if (line.starts_with("Target: ")) identity.triple = line.substr(8);
    if (line.starts_with("gcc version ")) {
      identity.family = "gcc";
      identity.version = line;
    } else if (line.find("clang version ") != std::string::npos) {
      identity.family = "clang";
      identity.version = line;
    }
  }
  if (identity.version.empty() || !identity.triple.starts_with("x86_64")) return std::nullopt;
  return identity;
}

}  // namespace

const std::vector<std::string>& CpuTargets() {
  static const std::vector<std::string> targets = {"x86-64-v4+avx512bf16", "x86-64-v4", "x86-64-v3"};
  return targets;
}

std::vector<std::string> TargetFlags(std::string_view target) {
  // Both compilers would otherwise keep to 256-bit vectors where they choose for themselves.
  if (target == "x86-64-v4") return {"-march=x86-64-v4", "-mprefer-vector-width=512"};
  if (target == "x86-64-v4+avx512bf16") {
    return {"-march=x86-64-v4", "-mavx512bf16", "-mprefer-vector-width=512"};
  }
  if (target == "x86-64-v3") return {"-march=x86-64-v3"};
  throw MakeError(ErrorKind::kInvalidArgument, "unknown CPU target {}: known are {}", target,
                  JoinWords(CpuTargets()));
}

std::string CompilerIdentity::Text() const {
  return version + ", " + triple;
}

const std::vector<std::string>& HostCompiler::Flags() {
  static const std::vector<std::string> flags = {
      "-std=c++17", "-O3", "-w",
      // Nothing from outside: no libc, no unwinder, no RTTI.
      "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables",
      "-fno-unwind-tables", "-fno-stack-protector", "-fno-threadsafe-statics", "-nostdinc++",
      // Position-independent within the image, no table that a loader fills.
      "-fPIC", "-fvisibility=hidden", "-fcf-protection=none",
      // Loops must not become calls of memcpy or memset, nor float code a call that sets errno.
      "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
      // The same bytes everywhere.
      "-fno-ident", "-g0"};
  return flags;
}

HostCompiler::HostCompiler(HostCompiler&& other) noexcept = default;

HostCompiler HostCompiler::At(std::string command) {
  HostCompiler compiler;
  compiler.command_ = SplitAtBlanks(command);
  if (compiler.command_.empty()) throw MakeError(ErrorKind::kNotFound, "no C++ compiler was named");
  auto identity = AskIdentity(compiler.command_);
  if (!identity) {
    throw MakeError(ErrorKind::kNotFound, "{}: no x86-64 gcc or clang answers there; install g++ or set CXX",
                    command);
  }
  compiler.identity_ = std::move(*identity);
  return compiler;
}

HostCompiler HostCompiler::Find() {
  std::vector<std::string> candidates;
  const auto named = sys::GetEnv("CXX");
  if (named) candidates.push_back(*named);
  for (const char* name : {"c++", "g++", "clang++"}) candidates.emplace_back(name);
  for (const std::string& candidate : candidates) {
    try {
      return At(candidate);
    } catch (const Error& error) {
      // The next one; but a user who named a compiler wants to know that it is not that one.
      if (named && candidate == *named) base::Warn("CXX: {}; looking for another", error.message());
    }
  }
  throw MakeError(ErrorKind::kNotFound, "no C++ compiler found: looked for {}; install g++ or set CXX",
                  JoinWords(candidates));
}

std::string HostCompiler::FlagsText(std::string_view target) const {
  return JoinWords(Flags()) + " " + JoinWords(TargetFlags(target));
}

CompiledUnit HostCompiler::CompileOne(const Unit& unit, const CompileOptions& options,
                                      const std::string& folder) const {
  std::vector<std::string> argv = command_;
  const auto append = [&argv](const std::vector<std::string>& more) {
    argv.insert(argv.end(), more.begin(), more.end());
  };
  append(Flags());
  if (identity_.family == "gcc") {
    append({"-fno-tree-loop-distribute-patterns", "-frandom-seed=preheat", "-pipe"});
  } else {
    append({"-fno-builtin", "-Qunused-arguments"});
  }
  append(TargetFlags(unit.target));
  append(options.extra_flags);
  // From stdin, so that the source has no path that could leak into the code.
  const std::string object_path = sys::JoinPath(folder, unit.name + ".o");
  append({"-x", "c++", "-c", "-", "-o", object_path});

  sys::SpawnOptions spawn;
  spawn.stdin_bytes = unit.source;
  spawn.env = CompilerEnvironment();
  spawn.timeout_seconds = kTimeoutSeconds;
  const auto failed = [&](const std::string& how) {
    return MakeError(ErrorKind::kToolFailed, "compiling {} for {} failed: {}\ncommand: {}\n{}", unit.name,
                     unit.target, how, JoinWords(argv), KeepSource(unit, options, ".cc"));
  };
  const sys::SpawnResult result = sys::Spawn(argv, spawn);
  if (!result.ok()) throw failed(result.Describe() + "\n" + FirstLines(result.err, kShownLines));

  try {
    const std::string object = sys::ReadFile(object_path);
    sys::RemoveFile(object_path);
    const sys::CodeImage image =
        ImageFromObject(std::as_bytes(std::span(object.data(), object.size())), unit.target);
    return {unit.name, sys::SerializeCodeImage(image), result.wall_seconds};
  } catch (const Error& error) {
    throw failed(error.message());
  }
}

std::vector<CompiledUnit> HostCompiler::Compile(const std::vector<Unit>& units,
                                                const CompileOptions& options) const {
  for (const Unit& unit : units) TargetFlags(unit.target);  // unknown: throws before anything is started
  // Objects live for milliseconds and are never synced: they stay in memory wherever this folder is.
  const sys::UniqueTempDir folder("preheat-cc");
  return CompileSideBySide(units, options, [&](const Unit& unit, size_t index) {
    // Two units may have one name: the object's place is the unit's own.
    const std::string own_folder = folder.File(std::to_string(index));
    sys::MakeDirs(own_folder);
    return CompileOne(unit, options, own_folder);
  });
}

}  // namespace preheat::toolchain
