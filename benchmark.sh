#!/usr/bin/env bash
# eager, compile_preload and compile_no_preload side by side, each in processes of its own. Further arguments are passed on.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/tools/find_binary.sh"
binary=$(preheat_binary)
exec "$binary" benchmark \
  --model-id meta-llama/Llama-3.2-3B-Instruct \
  --cache-path artifacts/llama3b_torchcompile_cache.bin \
  --metadata-path artifacts/llama3b_torchcompile_cache_meta.json \
  --cache-implementation static \
  --compile-dynamic auto \
  --compile-mode max-autotune \
  --fullgraph \
  --bucket-pad \
  --prompt "Write a short explanation of portable torch.compile caches." \
  --max-new-tokens 128 \
  --num-requests 50 \
  --repeats 2 \
  "$@"
