#!/usr/bin/env bash
# Makes this checkout ready to run: system packages, npm packages, the native addon, the compiled command line.
# Does only what is missing or out of date; run again it takes about a second.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/compiler.sh

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  echo "Node.js 20.17 or newer and npm are needed: https://nodejs.org" >&2
  exit 2
fi
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 17) ? 0 : 1)'; then
  echo "Node.js 20.17 or newer is needed; this is $(node --version): https://nodejs.org" >&2
  exit 2
fi

exec 9<package.json
flock --nonblock 9 || { echo "Another set-up is running in this folder; waiting for it."; flock 9; }

# Twice, because only an installed g++ shows for sure whether it is new enough. (g++ itself is what cmake-js looks for,
# whichever compiler it is told to use.)
packages_of scripts/packages-setup.txt
for _ in 1 2; do
  require_packages "to build the native addon" "${packages[@]}" "$(compiler_package):. scripts/compiler.sh; find_compiler"
done

node scripts/packages-current.mjs || {
  echo "Installing npm packages"
  npm ci --ignore-scripts --no-fund --no-audit --loglevel=error </dev/null
}
bash scripts/build-native.sh
bash scripts/build-ts.sh
