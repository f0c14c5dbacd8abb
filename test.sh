#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
set -euo pipefail
cd "$(dirname "$0")"
source tools/install_dependencies.sh
cmake --preset release -DPREHEAT_TESTS=ON >/dev/null
cmake --build --preset release
ctest --preset release --parallel "$(nproc)"
