// ModelConfig -> graph: the only place that knows what a Llama is. Another family is another file like this
// one.
//
// The graph is step(n, past): the embedding, one repeated block for the layers (weight names with "{}"), and
// the head. Names are transformers'. All activations and the KV cache are f32; passes narrow them. Nothing
// here is fused.
#pragma once

#include "checkpoint/config.h"
#include "ir/graph.h"
#include "program/program.h"
#include "tensor/dtype.h"

namespace preheat::capture {

struct CaptureOptions {
  // kLast: only the last position goes through the head, and the graph ends in Sample. kAll: logits of every
  // row.
  program::LogitRows logit_rows = program::LogitRows::kLast;
  tensor::DType weight_dtype = tensor::DType::kBf16;  // Checkpoint::dtype()
  // Probes after the embedding, after each layer and after the final norm.
  bool probe_layers = false;
};

// The result verifies. Errors: Corrupt where the sizes of the config do not fit each other.
ir::Graph CaptureLlama(const checkpoint::ModelConfig& config, const CaptureOptions& options);

}  // namespace preheat::capture
