#!/usr/bin/env bash
# Tests and measures the CUDA backend on a machine with an NVIDIA GPU; Node.js is not needed.
#   bench/cuda.sh test|sanitize|bench|tune|gelu|fp8|snapshot|compare|compare-large|compare-eight|all [RESULTS]
#   bench/cuda.sh pack FROM TO    collects the programs of build folder FROM for a machine where nothing can be installed:
#                                 TO is its build folder
# `test` and `bench` run with the attention that a run would choose (on Hopper the own kernels for it, elsewhere
# cuDNN's where it is there), then with ORCHESTRATOR_CUDA_ATTENTION=portable and cudnn; the last fails where
# cuDNN cannot be opened. With ORCHESTRATOR_CUDA_ALGORITHMS=FILE, cuBLASLt's algorithms are those that `tune`
# wrote (RESULTS/algorithms.txt). `gelu` times steps with GELU in the matmuls' epilogue and as passes of its own
# (ORCHESTRATOR_CUDA_GELU) in turns, `fp8` in bf16 and fp8, `snapshot` with a copy of the state beside them and
# before them; `compare-eight` has eight slots in a step. RESULTS is a folder (bench/results): a dated file with the
# hardware goes there, and a log. BUILD names the build folder (build-cuda); it is built where it has no programs
# that run here: CMAKE_ARGS may say where libraries are.
set -uo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
if [ "$what" = pack ]; then
  set -e
  from=${2:?FROM} to=${3:?TO}
  mkdir -p "$to"
  cp "$from/orch_test" "$from/orch_bench" "$from/Release/liborchestrator_cuda.so" "$to/"
  strip "$to/orch_test" "$to/orch_bench"
  du -sh "$to"
  exit 0
fi
results=${2:-bench/results}
build=${BUILD:-build-cuda}
python=${PYTHON:-python3}
mkdir -p "$results"
name="$results/$(date -u +%Y-%m-%d)-cuda-$what"
exec > >(tee "$name.txt") 2>&1

# The libraries of the Python packages, where there is no whole toolkit.
site=$($python -c 'import importlib.util as u; s = u.find_spec("nvidia"); print(list(s.submodule_search_locations)[0] if s else "")' 2>/dev/null)
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:$site/cu13/lib:$site/cudnn/lib:$site/nccl/lib"

if ! "$build/orch_test" --list >/dev/null 2>&1; then
  echo "--- building in $build"
  # shellcheck disable=SC2086
  cmake -S . -B "$build" "-DORCH_CUDA_ROOTS=$site/cu13;$site/cudnn;$site/nccl" ${CMAKE_ARGS:-} >"$name.build.log" &&
    cmake --build "$build" -j --target orch_test orch_bench orchestrator_cuda >>"$name.build.log" 2>&1 ||
    { tail -50 "$name.build.log"; sed -n 's/^ORCH_CUDA_MISSING:[A-Z]*=/no library for GPUs: /p' "$build/CMakeCache.txt"; exit 1; }
fi

echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $(git rev-parse --short HEAD 2>/dev/null)"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm,power.limit --format=csv,noheader
failed=0
part() {
  echo "--- $*"
  local started=$SECONDS
  "$@" || { failed=1; echo "FAILED ($?): $*"; }
  echo "($((SECONDS - started)) s)"
}
export ORCHESTRATOR_TEST_CUDA=1

tests() {
  ORCHESTRATOR_TEST_VERBOSE=1 part "$build/orch_test" device:
  for by in portable cudnn; do
    part env ORCHESTRATOR_CUDA_ATTENTION=$by "$build/orch_test" "device: operations"
  done
}
sanitize() {
  # Small shapes: every access is followed.
  export ORCHESTRATOR_TEST_SMALL=1
  local report="compute-sanitizer --print-limit 5"
  local check="$report --error-exitcode 9"
  # shellcheck disable=SC2086
  {
    part timeout 120 $check --tool memcheck "$build/orch_test" "device: operations"
    part timeout 120 $check --tool racecheck "$build/orch_test" "device: operations"
    part timeout 60 $check --tool synccheck "$build/orch_test" "device: operations"
    # initcheck seems not to follow cuBLASLt's stores, so its reports here do not fail the script; those on
    # quantization, which has no matmul, do.
    part timeout 60 $report --tool initcheck "$build/orch_test" "device: operations"
    part timeout 100 $check --tool memcheck "$build/orch_test" "device: MM-DiT"
    for tool in memcheck racecheck initcheck; do
      part timeout 60 $check --tool $tool "$build/orch_test" "device: quantized"
    done
  }
  unset ORCHESTRATOR_TEST_SMALL
}
bench() {
  part "$build/orch_bench" --cuda ceilings
  for shape in 24,256,32 24,512,8 24,1024,2; do part "$build/orch_bench" --cuda profile $shape; done
  for by in portable cudnn; do
    for shape in 24,512,8 24,1024,2; do
      part env ORCHESTRATOR_CUDA_ATTENTION=$by "$build/orch_bench" --cuda profile $shape
    done
  done
}
tune() {
  rm -f "$results/algorithms.txt"
  for shape in 24,256,32 24,512,8 24,1024,2 38,512,4; do part "$build/orch_bench" --cuda tune $shape "$results/algorithms.txt"; done
}
gelu() {
  for shape in 24,256,32 24,512,8 24,1024,2 38,512,1,block; do
    for choice in separate fused separate fused; do
      part env ORCHESTRATOR_CUDA_GELU=$choice "$build/orch_bench" --cuda steps $shape <<<"${SECONDS_EACH:-3}"
    done
  done
}
steps() {
  echo "${SECONDS_EACH:-3}" | "$build/orch_bench" --cuda steps "$1"
}
fp8() {
  # Alternating, because the clock may change.
  for shape in 24,256,32 24,512,8 24,1024,2; do
    for _ in 1 2; do
      part steps $shape
      part steps $shape,nothing,fp8
      ORCHESTRATOR_CUDA_FP8_SUMS=fast part steps $shape,nothing,fp8
    done
    part "$build/orch_bench" --cuda profile $shape,nothing,fp8
  done
  part "$build/orch_bench" --cuda quantize
}
compare() {
  part $python bench/cuda_compare.py "$build/orch_bench" "${SECONDS_EACH:-3}" "$@"
}

case $what in
  test) tests ;;
  sanitize) sanitize ;;
  bench) bench ;;
  tune) tune ;;
  gelu) gelu ;;
  fp8) fp8 ;;
  snapshot) part "$build/orch_bench" --cuda snapshot 24,512,8 ;;
  compare) compare 24,256,32 24,512,8 24,1024,2 ;;
  compare-large) compare 38,512,1,block ;;
  compare-eight) compare 24,512,8x8 38,512,1,blockx1x8 ;;
  all) tests; sanitize; bench; compare 24,256,32 24,512,8 24,1024,2 ;;
  *) echo "usage: bench/cuda.sh test|sanitize|bench|tune|gelu|fp8|snapshot|compare|compare-large|compare-eight|all [RESULTS]"; exit 2 ;;
esac
[ $failed -eq 0 ] && echo "--- everything passed" || echo "--- something failed"
exit $failed
