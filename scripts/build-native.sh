#!/usr/bin/env bash
# Builds the native addon to build/Release/orchestrator.node, and beside it the library for GPUs where CUDA's toolkit and
# libraries are found (native/kernels/cuda/cuda.cmake); with --tests also the C++ tests, to build/orch_test.
# Does nothing where the sources are those of the last build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/fingerprint.sh
. scripts/compiler.sh

exec 8<CMakeLists.txt
flock 8

targets=(orchestrator)
[ "${1:-}" != --tests ] || targets+=(orch_test)

current="$(fingerprint CMakeLists.txt native) node-api-headers $(node -p "require('node-api-headers/package.json').version")"
current+=" cuda $(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) ${ORCH_CUDA_ROOTS:-}"
up_to_date() {
  [ "$(cat "build/.built-$1" 2>/dev/null)" = "$current" ]
}
built=(build/Release/orchestrator.node)
[ "${#targets[@]}" -eq 1 ] || built+=(build/orch_test)
stale=()
for i in "${!targets[@]}"; do
  if ! up_to_date "${targets[$i]}" || [ ! -e "${built[$i]}" ]; then stale+=("${targets[$i]}"); fi
done
[ ${#stale[@]} -gt 0 ] || exit 0

compiler=$(find_compiler) || { echo "GCC 12 or newer is needed to build the native addon; run: npm run setup" >&2; exit 1; }

# CMake cannot go on in a folder that was moved or copied, or with another compiler.
cached() {
  sed -n "s/^$1:[A-Z]*=//p" build/CMakeCache.txt
}
if [ -f build/CMakeCache.txt ]; then
  [ "$(cached CMAKE_HOME_DIRECTORY)" = "$PWD" ] && [ "$(cached CMAKE_CXX_COMPILER)" = "$compiler" ] || rm -rf build
fi

# As many compilers as processors, and as memory allows (about 1 GiB each).
jobs=$(nproc)
memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || echo "$jobs")
[ "$memory" -ge "$jobs" ] || jobs=$((memory > 0 ? memory : 1))

quietly() {
  local log=build/last-command.log
  mkdir -p build
  "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; echo "failed: $*" >&2; exit 1; }
}

started=$SECONDS
echo "Building ${stale[*]} with $jobs compilers"
quietly node node_modules/cmake-js/bin/cmake-js configure --prefer-make --cxx "$compiler" --CDORCH_TESTS=ON
for target in "${stale[@]}"; do
  quietly cmake --build build --parallel "$jobs" --target "$target"
  echo "$current" >"build/.built-$target"
done
echo "Built ${stale[*]} in $((SECONDS - started)) s"
