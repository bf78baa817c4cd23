#!/usr/bin/env bash
# Types of the messages of proto/. `--check` fails where the committed ones differ.
set -euo pipefail
cd "$(dirname "$0")/.."
target=src/rpc/generated
out=$target
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
else
  rm -rf "$target"
fi
node_modules/.bin/proto-loader-gen-types --longs=Number --enums=String --defaults --oneofs --includeComments \
  --grpcLib=@grpc/grpc-js --importFileExtension=.js --outDir="$out" proto/*.proto >/dev/null
rm "$out/tensorboard.ts"  # for gRPC, but it has no service
if [ "$out" != "$target" ]; then
  diff -r "$out" "$target" || { echo "$target is not what proto/ generates; run: npm run generate" >&2; exit 1; }
fi
