#!/usr/bin/env bash
# --check: fails where a C++ file is not formatted; --fix: formats them all.
# Versions of clang-format differ in details: 14 is the one that counts, where this system has it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
package=clang-format
if apt-cache show clang-format-14 >/dev/null 2>&1; then package=clang-format-14; fi
require_packages "to format C++" "$package:command -v $package || clang-format --version | grep 'version 14'"
formatter=$(command -v clang-format-14 || command -v clang-format)
case "${1:-}" in
  --check) arguments=(--dry-run --Werror) ;;
  --fix) arguments=(-i) ;;
  *) echo "usage: scripts/clang-format.sh --check|--fix" >&2; exit 2 ;;
esac
find native \( -name '*.cc' -o -name '*.h' \) -print0 | xargs -0 "$formatter" "${arguments[@]}"
