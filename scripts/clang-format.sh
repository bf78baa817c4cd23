#!/usr/bin/env bash
# --check: fails where a C++ file is not formatted; --fix: formats them all. Versions of clang-format differ
# in details: 14 is the one that counts. Another one checks nothing, and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  --check) arguments=(--dry-run --Werror) ;;
  --fix) arguments=(-i) ;;
  *) echo "usage: scripts/clang-format.sh --check|--fix" >&2; exit 2 ;;
esac
formatter=$(command -v clang-format-14 || command -v clang-format) || {
  echo "clang-format is not there (Debian package clang-format-14, or clang-format where there is none)" >&2
  exit 2
}
if ! "$formatter" --version | grep -q 'version 14\.'; then
  echo "$("$formatter" --version): version 14 is the one that counts" >&2
  [ "$1" != --check ] || exit 0
fi
find native \( -name '*.cc' -o -name '*.h' \) -print0 | xargs -0 "$formatter" "${arguments[@]}"
