#!/usr/bin/env bash
# Compiles src/ to dist/. Does nothing where the sources are those of the last build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/fingerprint.sh

exec 7<tsconfig.build.json
flock 7

current=$(fingerprint src tsconfig.json tsconfig.build.json package-lock.json)
if [ "$(cat dist/.built 2>/dev/null)" = "$current" ]; then exit 0; fi
rm -f dist/.built
node_modules/.bin/tsc -p tsconfig.build.json
chmod +x dist/cli/main.js
echo "$current" >dist/.built
