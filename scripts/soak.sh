#!/usr/bin/env bash
# Tests that take long. `npm run soak -- --faults N --seed S --minutes M` disturbs real runs at random moments, with
# both exchanges, and compares each with an undisturbed one (bench/soak.ts). `npm run soak -- --simulated
# [SCHEDULES] [FIRST]` runs the rule of a run under as many seeded schedules, 1,000,000 if not given, from the first
# seed on.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --simulated ]; then
  npm run --silent build:ts
  flock tsconfig.bench.json node_modules/.bin/tsc -p tsconfig.bench.json
  exec node build/bench/bench/soak.js "$@"
fi
export SOAK_SCHEDULES=${2:-1000000} SOAK_FIRST=${3:-1}
exec npx vitest run --project unit test/unit/coordinator/schedules.test.ts
