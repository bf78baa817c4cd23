#!/usr/bin/env bash
# Compiles src/ to dist/. Does nothing where the sources are those of the last build.
set -euo pipefail
cd "$(dirname "$0")/.."

exec 7<tsconfig.build.json
flock 7

current=$(find src tsconfig.json tsconfig.build.json package-lock.json -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
if [ "$(cat dist/.built 2>/dev/null)" = "$current" ]; then exit 0; fi
rm -f dist/.built
node_modules/.bin/tsc -p tsconfig.build.json
chmod +x dist/cli/main.js
echo "$current" >dist/.built
