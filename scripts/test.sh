#!/usr/bin/env bash
# `npm test`: set-up, then the C++ tests, then the TypeScript ones. All run even where some fail. The last line is the sum.
# With arguments (`npm test -- test/unit`): only vitest, with these arguments.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/runs.sh
bash scripts/setup.sh || exit $?
if [ $# -gt 0 ]; then exec node_modules/.bin/vitest run "$@"; fi

bash scripts/build-native.sh --tests || exit $?
RESULTS=$(mktemp -d)
trap 'rm -rf "$RESULTS"' EXIT
native_tests all
typescript_tests all
node scripts/test-summary.mjs "$RESULTS"
