#!/usr/bin/env bash
# The main job on the embedded model: installs what is missing, builds, compiles the model, runs it preloaded,
# compares, benchmarks, and says what to type for a checkpoint of one's own.
set -euo pipefail
cd "$(dirname "$0")"
source tools/install_dependencies.sh

step() { printf '\n== %s\n' "$*"; }

step "Building preheat"
cmake --preset release >/dev/null
cmake --build --preset release --target preheat preheat-run preheat_eager_module

model=models/tiny-instruct
files=(--model-id "$model" --cache-path artifacts/tiny_cache.bin --metadata-path artifacts/tiny_cache_meta.json)

step "Compiling $model: prefill buckets, any length, and decode, into one file"
./build.sh "${files[@]}" --prefill-lengths 32,64,128

step "Running it preloaded: nothing is compiled, text streams as it is generated"
./run.sh "${files[@]}" --forbid-compile

step "Cold starts with the artifact and without"
./compare.sh "${files[@]}"

step "A short benchmark of all three modes"
./benchmark.sh "${files[@]}" --num-requests 3 --repeats 1 --max-new-tokens 64

step "Your own checkpoint: any Llama in a folder"
cat <<'TEXT'
  ./build.sh     --model-id /path/to/Llama-3.2-3B-Instruct
  ./run.sh       --model-id /path/to/Llama-3.2-3B-Instruct --prompt "Hello"
  ./compare.sh   --model-id /path/to/Llama-3.2-3B-Instruct
  ./benchmark.sh --model-id /path/to/Llama-3.2-3B-Instruct
TEXT
