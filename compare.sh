#!/usr/bin/env bash
# Cold-start trials: loading the artifact against skipping it. Further arguments are passed on.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/run.sh" --compare-load-vs-skip --compare-runs 2 "$@"
