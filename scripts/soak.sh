#!/usr/bin/env bash
# Tests that take long. `npm run soak -- --simulated [SCHEDULES] [FIRST]` runs the rule of a run under as many
# seeded schedules, 1,000,000 if not given, from the first seed on.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" != --simulated ]; then
  echo "usage: npm run soak -- --simulated [SCHEDULES] [FIRST]" >&2
  exit 2
fi
export SOAK_SCHEDULES=${2:-1000000} SOAK_FIRST=${3:-1}
exec npx vitest run --project unit test/unit/coordinator/schedules.test.ts
