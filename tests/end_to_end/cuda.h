// A machine with a card as users meet it: the binaries, on a driver and an NVRTC that are not real
// (tests/fake_cuda). Kernels do nothing there: what they compute is tested on tests/host_cuda.h's card.
#pragma once

#include <optional>
#include <string>

#include "end_to_end/end_to_end.h"

namespace preheat::testing {

class CudaEndToEnd : public EndToEnd {
 protected:
  // A machine with the fake card; `settings`: what is special to it.
  static Environment Card(const std::string& settings = "") {
    return {{"LD_LIBRARY_PATH", PREHEAT_FAKE_CUDA},
            {"PREHEAT_NVRTC", std::string(PREHEAT_FAKE_CUDA) + "/libnvrtc.so"},
            {"FAKE_CARD", settings},
            {"CUDA_VISIBLE_DEVICES", std::nullopt}};
  }
  static Environment With(Environment environment, const std::string& name,
                          const std::optional<std::string>& value) {
    environment.emplace_back(name, value);
    return environment;
  }

  Words BuildWords(const std::string& name, const Words& more = {}) const {
    Words words = {"build",
                   "--model-id",
                   TinyModel(),
                   "--compile-mode",
                   "default",
                   "--prefill-lengths",
                   "32",
                   "--cache-path",
                   File(name) + ".bin",
                   "--metadata-path",
                   File(name) + ".json"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // COMMAND on what BuildWords(name) built.
  Words On(const std::string& name, const std::string& command, const Words& more = {}) const {
    Words words;
    if (!command.empty()) words.push_back(command);
    words.insert(words.end(),
                 {"--model-id", TinyModel(), "--compile-mode", "default", "--cache-path", File(name) + ".bin",
                  "--metadata-path", File(name) + ".json", "--prompt-ids", "5,6,7", "--max-new-tokens", "3"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  rapidjson::Document FingerprintOf(const std::string& name) const {
    const rapidjson::Document metadata = ParseJson(sys::ReadFile(File(name) + ".json"));
    rapidjson::Document fingerprint;
    fingerprint.CopyFrom(metadata["runtime_fingerprint"], fingerprint.GetAllocator());
    return fingerprint;
  }
};

}  // namespace preheat::testing
