#!/usr/bin/env bash
# `npm test`: set-up, then the C++ tests, then the TypeScript ones. All run even where some fail. The last line is the sum.
# With arguments (`npm test -- test/unit`): only vitest, with these arguments.
set -uo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh || exit $?
if [ $# -gt 0 ]; then exec node_modules/.bin/vitest run "$@"; fi

bash scripts/build-native.sh --tests || exit $?
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

build/orch_test 2>&1 | tee "$results/native.txt"
native=${PIPESTATUS[0]}
node_modules/.bin/vitest run --reporter=default --reporter=json --outputFile.json="$results/vitest.json"
vitest=$?
node scripts/test-summary.mjs "$results" "$native" "$vitest"
