#!/usr/bin/env bash
# Makes this checkout ready to run: system packages, npm packages, the native addon, the compiled command
# line. Does only what is missing or out of date; run again it takes about a second.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/compiler.sh

needed="Node.js 22 (22.12 or newer), 24, or 20 (20.19 or newer) and npm are needed: https://nodejs.org"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "$needed" >&2
  exit 2
fi
# npm would refuse the others, too (.npmrc), after the system packages and with more words.
if ! node -e '
  const [a, b] = process.versions.node.split(".").map(Number);
  const served = [...require("./package.json").engines.node.matchAll(/(\^|>=)(\d+)\.(\d+)/g)];
  process.exit(served.some(([, sign, major, minor]) => (a == major && b >= minor) || (sign === ">=" && a > major)) ? 0 : 1);
'; then
  echo "$needed; this is $(node --version)" >&2
  exit 2
fi

exec 9<package.json
flock --nonblock 9 || { echo "Another set-up is running in this folder; waiting for it."; flock 9; }

# Twice, because only an installed g++ shows for sure whether it is new enough. (g++ itself is what cmake-js
# looks for, whichever compiler it is told to use.)
packages_of scripts/packages-setup.txt
for _ in 1 2; do
  require_packages "to build the native addon" "${packages[@]}" "$(compiler_package):. scripts/compiler.sh; find_compiler"
done

node scripts/packages-current.mjs || {
  echo "Installing npm packages"
  npm ci --ignore-scripts --no-fund --no-audit --loglevel=error </dev/null
}
bash scripts/build-native.sh
npm run --silent build:ts
