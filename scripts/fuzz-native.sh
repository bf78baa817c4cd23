#!/usr/bin/env bash
# Fuzzes what reads data sets in C++ (native/fuzz/data.cc) with clang's libFuzzer: SECONDS, 60 unless given.
# The inputs that it finds stay in build-fuzz/corpus; one that fails is in build-fuzz/, and is run again by
# `build-fuzz/fuzz_data FILE`. Debian package: clang.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
command -v clang++ >/dev/null || { echo "needs clang++ (Debian package clang)" >&2; exit 1; }
mkdir -p build-fuzz/corpus
flags=(-std=gnu++20 -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-math-errno
  -fno-trapping-math -ffp-contract=off -Wno-psabi -Inative)
objects=()
compile() { # object, source, more flags
  objects+=("build-fuzz/$1")
  local object=build-fuzz/$1
  # Any header may be among those that it includes.
  if [ ! "$object" -nt "$2" ] || [ -n "$(find native -name '*.h' -newer "$object" -print -quit)" ]; then
    clang++ "${flags[@]}" "${@:3}" -c "$2" -o "$object"
  fi
}
compile fuzz_data.o native/fuzz/data.cc
for source in native/data/*.cc native/kernels/timestep.cc; do compile "$(basename "$source" .cc).o" "$source"; done
for source in native/kernels/cpu/*.cc; do
  # They are not what is fuzzed here.
  compile "cpu_$(basename "$source" .cc).o" "$source" -fno-sanitize=all -include native/kernels/cpu/families.h \
    -DORCH_ISA=generic '-DORCH_ISA_NAME="generic"'
done
clang++ -fsanitize=fuzzer,address,undefined "${objects[@]}" -lpthread -o build-fuzz/fuzz_data
exec build-fuzz/fuzz_data -max_total_time="$seconds" -max_len=4096 -artifact_prefix=build-fuzz/ -print_final_stats=1 \
  build-fuzz/corpus
