#!/usr/bin/env bash
# Sets up what is missing, compiles the benches and runs them. Options: see bench/main.ts.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
flock tsconfig.bench.json node_modules/.bin/tsc -p tsconfig.bench.json
ln -sfn ../../proto build/bench/proto  # the program looks for it beside its sources
ORCHESTRATOR_ADDON="${ORCHESTRATOR_ADDON:-$PWD/build/Release/orchestrator.node}" exec node build/bench/bench/main.js "$@"
