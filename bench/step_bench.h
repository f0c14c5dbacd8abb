// Times whole steps of compiled programs on a device, on weights that are random: speed does not depend on
// what the numbers are.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "device/device.h"
#include "eager/card_matmul.h"
#include "program/program.h"
#include "session/session.h"
#include "store/store.h"
#include "tensor/dtype.h"

namespace preheat::bench {

class StepBench {
 public:
  // Makes all weights of the model, on the device. `device` and `store` outlive the bench. Throws kDevice
  // where they do not fit.
  StepBench(device::Device& device, store::Store& store, const checkpoint::ModelConfig& config,
            tensor::DType weight_dtype);

  // A session of these programs, whose code is in the store, and which may call cuBLASLt.
  std::unique_ptr<session::Session> Open(std::vector<program::Program> programs, int64_t capacity);

  // Of a decode step at this position: the median over `rounds` of the mean over `steps`.
  double DecodeSeconds(session::Session& session, int64_t past, int64_t steps, int rounds);
  // From a fresh prompt to its first token, `bucket` as Prefill has it: the median of `runs`.
  double PrefillSeconds(session::Session& session, int64_t rows, int64_t bucket, int runs);

 private:
  device::Device& device_;
  store::Store& store_;
  device::Buffer slab_;
  std::map<std::string, size_t> offsets_;
  std::unique_ptr<eager::CardMatmul> library_;  // opened when it is needed
};

}  // namespace preheat::bench
