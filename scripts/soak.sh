#!/usr/bin/env bash
# Tests that take long. `npm run soak -- --faults N --seed S --minutes M` disturbs real runs at random moments, with
# both exchanges, and compares each with an undisturbed one (scripts/soak.mjs). `npm run soak -- --simulated
# [SCHEDULES] [FIRST]` runs the rule of a run under as many seeded schedules, 1,000,000 if not given, from the first
# seed on.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --simulated ]; then
  npm run --silent build:ts
  exec node scripts/soak.mjs "$@"
fi
export SOAK_SCHEDULES=${2:-1000000} SOAK_FIRST=${3:-1}
exec npx vitest run --project unit test/unit/coordinator/schedules.test.ts
