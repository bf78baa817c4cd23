#!/usr/bin/env bash
# Installs Python's package tensorboard into build-tensorboard/ with what its reader imports, for
# test/interop/tensorboard.test.ts. Exits with 3 where pip is missing or finds no package.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=build-tensorboard
reader=tensorboard.backend.event_processing.event_accumulator
if ! python3 -c "import $reader" 2>/dev/null; then
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --retries 0 --timeout 20 \
    --upgrade --no-deps --target "$PYTHONPATH" 'tensorboard==2.21.*' absl-py numpy protobuf || exit 3
fi
python3 -c "import $reader, tensorboard; print('TensorBoard', tensorboard.__version__)"
