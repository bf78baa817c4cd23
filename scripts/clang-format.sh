#!/usr/bin/env bash
# --check: fails where a C++ file is not formatted; --fix: formats them all.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
require_packages "to format C++" "clang-format:command -v clang-format"
case "${1:-}" in
  --check) arguments=(--dry-run --Werror) ;;
  --fix) arguments=(-i) ;;
  *) echo "usage: scripts/clang-format.sh --check|--fix" >&2; exit 2 ;;
esac
find native \( -name '*.cc' -o -name '*.h' \) -print0 | xargs -0 clang-format "${arguments[@]}"
