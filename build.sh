#!/usr/bin/env bash
# Compiles the model and writes the artifact and its metadata. Further arguments are passed on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tools/find_binary.sh"
binary=$(preheat_binary)
exec "$binary" build \
  --model-id meta-llama/Llama-3.2-3B-Instruct \
  --cache-path artifacts/llama3b_torchcompile_cache.bin \
  --metadata-path artifacts/llama3b_torchcompile_cache_meta.json \
  --prefill-lengths 128,256,512,1024 \
  --decode-length 128 \
  --cache-implementation static \
  --compile-dynamic auto \
  --compile-mode max-autotune \
  --fullgraph \
  "$@"
