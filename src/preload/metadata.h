// The metadata file that build writes beside the artifact, and the check against it before preloading.
//
// JSON, two-space indent, sorted keys; docs/format.md lists the fields. It repeats for people and scripts
// what the artifact's own manifest says; the artifact is what counts.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace preheat::preload {

struct WarmupTiming {
  std::string stage;           // "prefill", "decode", "machine_code", "tune"
  int64_t prefill_length = 0;  // 0: not of one length
  double seconds = 0;
};

// The card that something was built or runs on.
struct Gpu {
  std::string name;
  std::string capability;  // "9.0"
  int64_t total_memory_bytes = 0;
  std::string cuda_runtime_version;  // of the driver's interface: "13.0"

  bool operator==(const Gpu&) const = default;
};

struct Metadata {
  std::string model_id;
  // compile
  std::string mode;
  bool fullgraph = true;
  std::string dynamic = "auto";  // "auto", "true", "false": null, true, false in the file
  std::string dtype;
  std::string cache_implementation;
  // warmup
  std::vector<int64_t> prefill_lengths;
  int64_t decode_length = 0;
  int64_t batch_size = 1;
  std::vector<WarmupTiming> timings;
  // runtime_fingerprint
  std::string timestamp_utc;
  std::string device_type;  // "cpu", "cuda": what it was built for
  std::string device_name;  // empty, null in the file: built where there is no such device
  std::optional<Gpu> gpu;   // null in the file: not on a card
  std::vector<std::string> targets;
  std::map<std::string, std::string> versions;  // preheat, abi, compiler
  // cache_info, cache_bytes
  std::map<std::string, int64_t> entries;  // by kind
  int64_t cache_bytes = 0;
};

std::string ToJson(const Metadata& metadata);
// Errors: Corrupt, naming the field. `source` stands in messages.
Metadata ParseMetadata(std::string_view json, std::string_view source);
// Nothing where there is no such file. Errors: as ParseMetadata; Io.
std::optional<Metadata> ReadMetadata(const std::string& path);

// Of targets: true where code for one list runs on a device of the other.
bool HaveOneInCommon(const std::vector<std::string>& some, const std::vector<std::string>& others);

// A line for each factor in which a run differs from what was built: "dtype: built bfloat16, this run
// float32".
std::vector<std::string> Mismatches(const Metadata& built, const Metadata& run);

}  // namespace preheat::preload
