#!/usr/bin/env bash
# Builds, checks and times all that matters on a machine with a card, and prints one table.
#
#   bench/gpu.sh [--device cuda[:N]|cpu] [--shape llama-3.2-3b|CONFIG.json] [--model-id DIR] [--runs N]
#                [--pasts 128,1000,4096] [--rows 128,256,512,1024] [--output FOLDER] [--no-build] [--no-check]
#
# Without --model-id it writes random weights of the shape: speed does not depend on what the numbers are. Each
# start is a process of its own; of several, the median counts. --device cpu tries the script itself out.
# --output: a folder that stays, with the logs of all that was run; else a temporary one. Besides what the build
# needs it needs nothing; where there is nvidia-smi, memory is measured with it.
set -euo pipefail

usage() { sed -n '2,/^set/{/^set/d; s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

device=cuda shape=llama-3.2-3b model='' runs=5 pasts=128,1000,4096 rows=128,256,512,1024 output='' build=1 check=1
while [ $# -gt 0 ]; do
  case $1 in
    --no-build) build=0; shift; continue ;;
    --no-check) check=0; shift; continue ;;
    --device | --shape | --model-id | --runs | --pasts | --rows | --output) [ $# -ge 2 ] || { usage >&2; exit 2; } ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  case $1 in
    --device) device=$2 ;;
    --shape) shape=$2 ;;
    --model-id) model=$2 ;;
    --runs) runs=$2 ;;
    --pasts) pasts=$2 ;;
    --rows) rows=$2 ;;
    --output) output=$2 ;;
  esac
  shift 2
done
[ -e "$shape" ] && shape=$(realpath "$shape")
[ -z "$model" ] || model=$(realpath "$model")
[ -z "$output" ] || { mkdir -p "$output"; output=$(realpath "$output"); }
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '== %s\n' "$*" >&2; }
[ -n "$output" ] || { output=$(mktemp -d); trap 'rm -rf "$output"' EXIT; }
build_folder=build/release
preheat=$build_folder/bin/preheat

if [ "$build" = 1 ]; then
  say "building"
  {
    cmake --preset release -DPREHEAT_TESTS=ON
    cmake --build --preset release --target preheat preheat-run bench_gpu golden_compiled_test kernel_resources_test
    # Eager execution is a module of its own, which not every machine can build.
    cmake --build --preset release --target preheat_eager_module || true
  } >"$output/build.log" 2>&1 || { tail -30 "$output/build.log" >&2; exit 1; }
fi

"$preheat" devices | tee "$output/devices.txt"

if [ "$check" = 1 ]; then
  say "checking: all golden cases on $device, and that no kernel spills"
  export PREHEAT_TEST_CARD=$device
  [ "$device" != cpu ] || unset PREHEAT_TEST_CARD
  for test in golden_compiled_test kernel_resources_test; do
    "$build_folder/tests/$test" >"$output/$test.log" 2>&1 || { tail -30 "$output/$test.log" >&2; exit 1; }
    grep -E '^\[  (PASSED|SKIPPED)|^\[SKIP\]' "$output/$test.log" | sed "s/^/$test: /" >&2 || true
  done
  unset PREHEAT_TEST_CARD
fi

if [ -z "$model" ]; then
  model=$output/model
  if [ ! -e "$model/config.json" ]; then
    say "writing random weights of $shape"
    "$preheat" synth --shape "$shape" --output "$model" >"$output/synth.log" 2>&1
  fi
fi

# ---- The table ----------------------------------------------------------------------------------------------
table=$output/table.txt
: >"$table"
row() { printf '%-52s %12s %s\n' "$1" "$2" "$3" >>"$table"; }
# The number behind "KEY": in JSON; "-" where there is none.
number() { sed -n "s/.*\"$2\":[ ]*\(-\{0,1\}[0-9.e+-]*\).*/\1/p" "$1" | head -1 | grep . || echo -; }
median() { sort -g | sed -n "$(((${1} + 1) / 2))p"; }
short() { calculate .4f "$1"; }
calculate() { awk "BEGIN { printf \"%$1\", $2 }"; }
on() { printf '%s\n' --model-id "$model" --device "$device" --compile-mode "$1" --cache-path "$output/$1.bin" \
  --metadata-path "$output/$1.json"; }

# Runs a command into a log; on failure the table says so, and the script goes on.
try() {
  local log=$1
  shift
  if "$@" >"$log" 2>&1; then return 0; fi
  say "failed, see $log: $(tail -1 "$log")"
  return 1
}

for mode in default max-autotune; do
  say "building for $mode, nothing cached"
  mapfile -t files < <(on "$mode")
  export PREHEAT_CACHE_DIR=$output/cache-$mode
  rm -rf "$PREHEAT_CACHE_DIR"
  if try "$output/build-$mode.log" "$preheat" build "${files[@]}" --prefill-lengths "$rows"; then
    row "build, $mode" "$(sed -n 's/.* \([0-9.]*\)s in all$/\1/p' "$output/build-$mode.log")" \
      "s, $(sed -n 's/.* \([0-9]*\) kernels compiled.*/\1/p' "$output/build-$mode.log") kernels"
    bytes=$(stat -c %s "$output/$mode.bin")
    row "artifact, $mode" "$(calculate .2f "$bytes / 1e6")" "MB, tokenizer included"
  else
    row "build, $mode" failed ""
  fi
done

ids=$(seq -s, 2 129)
most_rows=${rows##*,}
mapfile -t files < <(on max-autotune)
# Runs have a cache of their own: what they need is in the artifact.
export PREHEAT_CACHE_DIR=$output/cache-run
run=("$build_folder/bin/preheat-run" "${files[@]}" --bucket-pad --ignore-eos --emit-json-metrics --verbose)

say "first tokens, $runs processes"
firsts=() setups=()
for i in $(seq "$runs"); do
  try "$output/first-$i.log" "${run[@]}" --prompt-ids "$ids" --max-new-tokens 2 || continue
  firsts+=("$(number "$output/first-$i.log" first_token_seconds)")
  setups+=("$(number "$output/first-$i.log" setup_seconds)")
done
count=${#firsts[@]}
if [ "$count" -gt 0 ]; then
  row "process start to first token, 128 tokens of prompt" "$(short "$(printf '%s\n' "${firsts[@]}" | median "$count")")" \
    "s, median of $count"
  row "  of it set-up" "$(short "$(printf '%s\n' "${setups[@]}" | median "$count")")" "s"
  [ "$device" = cpu ] || row "  after it, recording a decode step" \
    "$(sed -n 's/.*decode step recorded: .* in \([0-9.]*\) ms$/\1/p' "$output"/first-*.log | median "$count")" "ms"
else
  row "process start to first token" failed ""
fi

say "requests of 128 new tokens, $runs processes"
requests=() speeds=()
for i in $(seq "$runs"); do
  try "$output/request-$i.log" "$preheat" benchmark "${files[@]}" --single-mode compile_preload --num-requests 3 \
    --prompt-ids "$ids" --max-new-tokens 128 --emit-json || continue
  requests+=("$(number "$output/request-$i.log" ttft_cold_start_seconds)")
  speeds+=("$(number "$output/request-$i.log" tail_tokens_per_second)")
done
count=${#requests[@]}
if [ "$count" -gt 0 ]; then
  row "process start to first request done, 128 in, 128 out" "$(short "$(printf '%s\n' "${requests[@]}" | median "$count")")" \
    "s, median of $count"
  row "later requests" "$(calculate .1f "$(printf '%s\n' "${speeds[@]}" | median "$count")")" "token/s"
else
  row "process start to first request done" failed ""
fi

say "steps: decode at $pasts, prefill of $rows"
export PREHEAT_CACHE_DIR=$output/cache-default
if try "$output/steps.log" "$build_folder/bench/bench_gpu" --device "$device" --shape "$model/config.json" \
  --pasts "$pasts" --rows "$rows" && grep -q '^default ' "$output/steps.log"; then
  read -r -a times < <(sed -n 's/^default *//p' "$output/steps.log")
  IFS=, read -r -a past_list <<<"$pasts"
  IFS=, read -r -a row_list <<<"$rows"
  if [ "${#times[@]}" = $((${#past_list[@]} + ${#row_list[@]})) ]; then
    for i in "${!past_list[@]}"; do
      row "decode step at ${past_list[i]}" "$(calculate .3f "${times[i]} / 1e3")" \
        "ms, $(calculate .1f "1e6 / ${times[i]}") token/s, heuristic schedules"
    done
    for i in "${!row_list[@]}"; do
      us=${times[$((${#past_list[@]} + i))]}
      row "prefill of ${row_list[i]}" "$(calculate .3f "$us / 1e3")" \
        "ms, $(calculate .0f "${row_list[i]} * 1e6 / $us") token/s, heuristic schedules"
    done
  else
    row "steps" failed "${times[*]}"
  fi
else
  row "steps" failed ""
fi

say "memory"
positions=$((most_rows + 1024))
if try "$output/memory.json" "$preheat" inspect "$output/max-autotune.bin" --positions "$positions" --json; then
  tr -d '\n' <"$output/memory.json" | sed 's/.*"memory"//; s/"entries".*//' >"$output/memory-parts.json"
  weight_bytes=$(number "$output/memory-parts.json" weight_bytes)
  kv_cache_bytes=$(number "$output/memory-parts.json" kv_cache_bytes)
  activation_bytes=$(number "$output/memory-parts.json" activation_bytes)
  row "memory: weights" "$(calculate .1f "$weight_bytes / 1e6")" "MB"
  row "memory: KV cache at $positions positions" "$(calculate .1f "$kv_cache_bytes / 1e6")" "MB"
  row "memory: activations and all else that is ours" "$(calculate .1f "$activation_bytes / 1e6")" "MB"
fi
# What nvidia-smi says is taken of the card, MiB; fails where it says no number.
used() { nvidia-smi -i "$ordinal" --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null | grep -x '[0-9]*[0-9]'; }
# MiB that a command takes at most, which runs for several looks.
taken_by() {
  local log=$1 before most now process
  shift
  before=$(used) || return 1
  most=$before
  "$@" >"$log" 2>&1 &
  process=$!
  while kill -0 "$process" 2>/dev/null; do
    now=$(used) || now=0
    [ "$now" -le "$most" ] || most=$now
    sleep 0.05
  done
  wait "$process" || { say "failed, see $log: $(tail -1 "$log")"; return 1; }
  echo $((most - before))
}
ordinal=${device#cuda}
ordinal=${ordinal#:}
ordinal=${ordinal:-0}
if [ "$device" != cpu ] && used >/dev/null; then
  # What the driver takes for itself is what it takes with a model of 6 MB, less that: what else the small model takes,
  # a few MB, counts as the driver's.
  small=(--model-id models/tiny-instruct --device "$device" --compile-mode default --cache-path "$output/small.bin"
    --metadata-path "$output/small.json")
  try "$output/build-small.log" "$preheat" build "${small[@]}" || true
  small_bytes=$(stat -c %s models/tiny-instruct/model.safetensors)
  if [ -n "${weight_bytes:-}" ] &&
    own=$(taken_by "$output/memory-small.log" "$preheat" benchmark "${small[@]}" --single-mode compile_preload \
      --num-requests 300 --max-new-tokens 128) &&
    most=$(taken_by "$output/memory.log" "${run[@]}" --prompt-ids "$(seq -s, 2 $((most_rows + 1)))" --max-new-tokens 1024); then
    # nvidia-smi counts MiB, and the driver gives pieces of 2 MiB.
    row "memory: the driver's own" "$(calculate .0f "($own * 1048576 - $small_bytes) / 1e6")" "MB on the card"
    row "memory: such a run beyond it, weights and KV cache" \
      "$(calculate .0f "(($most - $own) * 1048576 + $small_bytes - $weight_bytes - $kv_cache_bytes) / 1e6")" "MB on the card"
  else
    row "memory on the card" failed ""
  fi
fi

say "eager"
if try "$output/eager.log" "$preheat" run "${files[@]}" --execution eager --prompt-ids "$ids" --ignore-eos \
  --max-new-tokens 33 --emit-json-metrics; then
  generation=$(number "$output/eager.log" generation_seconds)
  first=$(number "$output/eager.log" first_token_seconds)
  setup=$(number "$output/eager.log" setup_seconds)
  row "eager decode step at 128" "$(calculate .3f "($generation - ($first - $setup)) / 32 * 1e3")" "ms"
else
  row "eager decode step at 128" - "$(sed -n 's/.*error: //p' "$output/eager.log" | head -1)"
fi

printf '\n%s, %s, %s\n' "$(date -u +%F)" "$(git describe --always --dirty 2>/dev/null || echo 'no repository')" \
  "$(head -1 "$output/steps.log" 2>/dev/null || true)"
cat "$table"
! grep -q ' failed ' "$table"
