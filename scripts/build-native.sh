#!/usr/bin/env bash
# Builds the native addon to build/Release/orchestrator.node, or brings it up to date. Also, where they are
# asked for:
#   --tests   the C++ tests, build/orch_test, and the emulated GPU that the tests of src/ use
#   --bench   the benches of kernels, build/orch_bench
#   --cuda    the library for GPUs, build/Release/liborchestrator_cuda.so (native/kernels/cuda/cuda.cmake)
#   --nvcc    its kernels alone, for which nvcc is enough
#   --faults  an addon with fault points for tests, build-faults/orchestrator.node
#   --aarch64 build-aarch64/orch_test alone: the library and its tests for ARM64, cross-compiled
# A library for GPUs that is there is kept up to date, too: the addon opens it. So is one with fault points. Exit code 3: CUDA or ARM64 was
# asked for, and what it needs is not there.
set -euo pipefail
cd -P "$(dirname "$0")/.."  # CMake remembers the folder without symbolic links
. scripts/compiler.sh

cuda=build/Release/liborchestrator_cuda.so
faults=build-faults/orchestrator.node
build=build
targets=(orchestrator)
asked=
for option in "$@"; do
  case $option in
    --tests) targets+=(orch_test) ;;
    --bench) targets+=(orch_bench) ;;
    --cuda) targets+=(orchestrator_cuda) asked=yes ;;
    --nvcc) targets+=(cuda_kernels) asked=yes ;;
    --faults) targets+=(orchestrator_faults) ;;
    --aarch64) build=build-aarch64 ;;
    *) echo "usage: scripts/build-native.sh [--tests] [--bench] [--cuda] [--nvcc] [--faults] | --aarch64" >&2; exit 2 ;;
  esac
done

exec 8<CMakeLists.txt
flock 8
if [ $build = build-aarch64 ]; then
  targets=(orch_test) asked=
else
  is_kept() { [[ -e $1 && " ${targets[*]} " != *" $2 "* ]]; }
  if is_kept $cuda orchestrator_cuda; then targets+=(orchestrator_cuda); fi
  if is_kept $faults orchestrator_faults; then targets+=(orchestrator_faults); fi
fi

if [ $build = build-aarch64 ]; then
  compiler=$(find_compiler aarch64-linux-gnu-) || {
    echo "GCC 12 or newer for ARM64 is needed (Debian package g++-aarch64-linux-gnu)" >&2
    exit 3
  }
else
  compiler=$(find_compiler) || { echo "GCC 12 or newer is needed to build the native addon; run: npm run setup" >&2; exit 1; }
fi

# CMake cannot go on in a folder that was moved or copied, or with another compiler.
cached() {
  sed -n "s/^$1:[A-Z]*=//p" $build/CMakeCache.txt
}
if [ -f $build/CMakeCache.txt ]; then
  [ "$(cached CMAKE_HOME_DIRECTORY)" = "$PWD" ] && [ "$(cached CMAKE_CXX_COMPILER)" = "$compiler" ] || rm -rf $build
fi

# As many compilers as processors, and as memory allows (about 1 GiB each).
jobs=$(nproc)
memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || echo "$jobs")
[ "$memory" -ge "$jobs" ] || jobs=$((memory > 0 ? memory : 1))

log=$build/last-command.log
mkdir -p $build
gives_up() {
  cat "$log" >&2
  echo "failed: $*" >&2
  exit 1
}

# CUDA, which may have come since, is looked for each time it is asked for.
if [ ! -f $build/Makefile ] || [ -n "$asked" ]; then
  if [ $build = build-aarch64 ]; then  # without the addon
    configure=(cmake -S . -B $build -DCMAKE_TOOLCHAIN_FILE=scripts/aarch64-linux-gnu.cmake "-DCMAKE_CXX_COMPILER=$compiler")
  else
    configure=(node node_modules/cmake-js/bin/cmake-js configure --prefer-make --cxx "$compiler")
  fi
  "${configure[@]}" >"$log" 2>&1 </dev/null || gives_up "${configure[*]}"
fi
if [[ " ${targets[*]} " == *" orchestrator_faults "* && $(cached ORCH_FAULTS) != ON ]]; then
  configure=(cmake -DORCH_FAULTS=ON $build)
  "${configure[@]}" >"$log" 2>&1 </dev/null || gives_up "${configure[*]}"
fi
case " ${targets[*]} " in
  *" orchestrator_cuda "*) missing=$(cached ORCH_CUDA_MISSING) ;;
  *" cuda_kernels "*) missing=$(cached ORCH_NVCC_MISSING) ;;
  *) missing= ;;
esac
if [ -n "$missing" ] && [ -z "$asked" ]; then
  echo "$cuda is of an earlier build and stays as it is: $missing" >&2
  targets=("${targets[@]/orchestrator_cuda/}")
elif [ -n "$missing" ]; then
  cat >&2 <<END
The library for GPUs cannot be built: $missing.
It needs nvcc of CUDA 13, in PATH or in CUDA_HOME, and cuBLASLt: of the toolkit, of the Python packages nvidia-cublas,
nvidia-cudnn-cu13 and nvidia-nccl-cu13, or in a folder with include/ and lib/ that ORCH_CUDA_ROOTS names.
END
  exit 3
fi

# make knows what is out of date; where that is nothing, nothing is said.
started=$SECONDS
exec 3>"$log"
make=(cmake --build $build --parallel "$jobs" --target ${targets[*]})
"${make[@]}" 2>&1 </dev/null | {
  said=
  while IFS= read -r line; do
    printf '%s\n' "$line" >&3
    if [[ -z $said && $line =~ Building|Linking|nvcc ]]; then
      said=yes
      echo "Building ${targets[*]} with $jobs compilers"
    fi
  done
  [ -z "$said" ] || echo "Built in $((SECONDS - started)) s"
} || gives_up "${make[*]}"
