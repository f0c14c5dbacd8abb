# Sourced by the scripts: prints the preheat binary that was built or installed, or says how to build it.
preheat_binary() {
  local root candidate
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  for candidate in "${PREHEAT_BIN:-}" "$root/build/release/bin/preheat" "$(command -v preheat || true)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ]; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  echo "preheat is not built yet. Build it with:" >&2
  echo "  cmake --preset release && cmake --build --preset release" >&2
  echo "or run ./demo.sh, which installs what is missing first." >&2
  return 66
}
