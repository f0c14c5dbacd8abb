// Random well-formed programs, for property tests (here and of memory planning). Test code only.
#pragma once

#include <random>

#include "program/program.h"

namespace preheat::program {

inline Program RandomProgram(std::mt19937_64& random) {
  const auto pick = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  Program program;
  program.name = pick(0, 1) ? "decode" : "prefill_any \"quoted\" \xc3\xa9";
  program.target = "x86-64-v4";
  program.kind = pick(0, 1) ? StepKind::kPrefill : StepKind::kDecode;
  program.max_rows = pick(0, 300);
  program.toolchain = pick(0, 1) ? "gcc version 12.2.0" : "";
  program.logit_rows = pick(0, 1) ? LogitRows::kLast : LogitRows::kAll;
  program.vocab_size = pick(1, 1000);
  program.layers = pick(1, 40);
  const auto extent = [&] { return Extent{pick(0, 1 << 20), pick(0, 4096), pick(0, 4096)}; };
  program.kv = {"f32", pick(1, 64), extent(), extent()};
  program.rotary.scale = std::uniform_real_distribution<float>(0.1f, 2)(random);
  for (int64_t i = pick(0, 5); i > 0; --i) {
    program.rotary.inv_freq.push_back(std::uniform_real_distribution<float>(0, 1)(random));
  }
  for (int64_t i = pick(1, 6); i > 0; --i) {
    program.weights.push_back({"model.layers.{}.w" + std::to_string(i),
                               pick(0, 1) ? tensor::DType::kBf16 : tensor::DType::kF32,
                               {pick(1, 9), pick(1, 9)}});
  }
  const int64_t buffers = pick(1, 12);
  program.slots = static_cast<int>(buffers);
  for (int64_t i = 0; i < buffers; ++i) {
    const int slot = pick(0, 3) ? static_cast<int>(i) : kOwnSlot;
    program.buffers.push_back({"b" + std::to_string(i), extent(), slot});
  }
  for (int64_t s = pick(1, 4); s > 0; --s) {
    const int64_t first = pick(0, 1) ? pick(0, std::max<int64_t>(1, program.layers) - 1) : 0;
    Segment segment{pick(0, 1) ? std::max<int64_t>(1, program.layers) - first : 1, {}, first};
    for (int64_t l = pick(0, 6); l > 0; --l) {
      Launch launch;
      launch.region = "region";
      launch.code = pick(0, 4) ? std::string(64, "0123456789abcdef"[pick(0, 15)]) : "library:eager";
      launch.entry = "f" + std::to_string(l);
      launch.stage_entry = pick(0, 1) ? "stage" : "";
      launch.tiles = {pick(0, 9), static_cast<TileCount::Per>(pick(0, 2)), pick(1, 64)};
      launch.chunk = pick(1, 4);
      launch.scratch_bytes = pick(0, 9999);
      launch.blocks = {.threads = static_cast<int>(pick(0, 1024)),
                       .blocks_per_sm = static_cast<int>(pick(0, 8)),
                       .shared_bytes = pick(0, 9999),
                       .cluster = static_cast<int>(pick(0, 8))};
      launch.link = program.kind == StepKind::kDecode ? static_cast<int>(pick(0, 3)) : 0;
      for (int64_t o = pick(0, 4); o > 0; --o) {
        launch.operands.push_back({Operand::Kind::kBuffer, static_cast<int>(pick(0, buffers - 1)),
                                   static_cast<Operand::Access>(pick(0, 2))});
      }
      launch.operands.push_back({Operand::Kind::kWeight,
                                 static_cast<int>(pick(0, static_cast<int64_t>(program.weights.size()) - 1)),
                                 Operand::Access::kRead});
      launch.operands.push_back({static_cast<Operand::Kind>(pick(2, 7)), 0, Operand::Access::kRead});
      for (int64_t m = pick(0, 2); m > 0; --m) {
        const auto weight = static_cast<int>(launch.operands.size()) - 2;
        const program::Weight& of =
            program.weights[static_cast<size_t>(launch.operands[static_cast<size_t>(weight)].index)];
        const auto bytes = static_cast<int64_t>(tensor::Bytes(of.dtype));
        launch.tensor_maps.push_back(
            {.operand = weight,
             .element = of.dtype,
             .swizzle_bytes = static_cast<int>(pick(0, 128)),
             .dims = {{of.shape[1], bytes, static_cast<int>(pick(1, 256))},
                      {of.shape[0], bytes * of.shape[1], static_cast<int>(pick(1, 256))}}});
      }
      for (int64_t c = pick(0, 3); c > 0; --c) launch.constants.push_back(pick(INT64_MIN, INT64_MAX));
      segment.launches.push_back(std::move(launch));
    }
    program.segments.push_back(std::move(segment));
  }
  return program;
}

}  // namespace preheat::program
