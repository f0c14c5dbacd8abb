// Runs preheat and preheat-run as a user does: processes, what they print, and their exit codes. Each test
// has a folder of its own for artifacts, cache and TMPDIR; all share one artifact of models/tiny-instruct,
// built once a process.
#pragma once

#define RAPIDJSON_HAS_STDSTRING 1
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sys/env.h"
#include "sys/files.h"
#include "sys/process.h"

namespace preheat::testing {

using Words = std::vector<std::string>;
using Environment = std::vector<std::pair<std::string, std::optional<std::string>>>;

inline constexpr char kSum[] = "What is 12 + 7?";
inline constexpr char kSumAnswer[] = "12 + 7 = 19.";
inline constexpr char kSumIds[] = "220,737,466,220,22,554,220,971,13,2039";  // the end token 2039 included

// The model that comes with the project.
std::string TinyModel();

class EndToEnd : public ::testing::Test {
 protected:
  // What all tests read and none changes: `build --compile-mode default --prefill-lengths 32`.
  struct Built {
    sys::UniqueTempDir folder{"preheat-e2e"};
    std::string artifact = folder.File("tiny.bin");
    std::string metadata = folder.File("tiny.json");
    std::string cache = folder.File("cache");
    sys::SpawnResult build;
  };
  static const Built& Tiny();

  // Ends with the test, whatever the process did: 60 s.
  sys::SpawnResult Preheat(const Words& words, const Environment& changes = {}) const;
  sys::SpawnResult PreheatRun(const Words& words, const Environment& changes = {}) const;
  sys::SpawnResult Start(const std::string& binary, const Words& words, sys::SpawnOptions options) const;

  // COMMAND (none where it is empty) on the shared artifact, then `more`.
  static Words OnTiny(const std::string& command, const Words& more);
  // A copy of the model's folder that the test may spoil.
  std::string CopyOfTiny() const;
  // Replaces the one place where `from` stands in a text file.
  static void Edit(const std::string& path, const std::string& from, const std::string& to);

  std::string File(const std::string& name) const { return folder_.File(name); }
  // The store that the shared artifact was built with: what is in it need not be compiled again.
  static Environment WarmCache() { return {{"PREHEAT_CACHE_DIR", Tiny().cache}}; }
  // No program can be found, so no compiler either.
  Environment NoPrograms() const;

 private:
  sys::UniqueTempDir folder_{"preheat-e2e"};
};

// The line of `text` that starts with `prefix`, without it; a failure and "" where there is none.
std::string LineAfter(const std::string& text, const std::string& prefix);
// The document, or a failure.
rapidjson::Document ParseJson(const std::string& text);
// The JSON behind METRICS_JSON: or BENCH_JSON:.
rapidjson::Document MetricsOf(const sys::SpawnResult& result, const std::string& prefix = "METRICS_JSON:");
void ExpectKeys(const rapidjson::Value& object, const Words& keys);
// Nothing was captured, lowered, compiled or made.
void ExpectNothingCompiled(const rapidjson::Value& metrics);

void ExpectDone(const sys::SpawnResult& result);
// Exit code, "PROGRAM: error: " on stderr and every one of `texts` in it.
void ExpectError(const sys::SpawnResult& result, int exit_code, const Words& texts);

}  // namespace preheat::testing
