#!/usr/bin/env bash
# remove-stale.sh DIST SRC: removes from DIST what was compiled from files that are not in SRC any more. The compiler
# leaves them; but what is in dist/ says which build this is (src/version.ts), so it has to be the same in every
# checkout of a commit.
set -euo pipefail
find "$1" -type f \( -name '*.js' -o -name '*.js.map' \) -printf '%P\n' | while IFS= read -r name; do
  source=${name%.map}
  [ -e "$2/${source%.js}.ts" ] || rm -f "$1/$name"
done
