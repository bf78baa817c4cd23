#!/usr/bin/env bash
# From a clean clone to a picture: set-up, a data set, training on two nodes, a picture of sixteen prompts, its score.
# Run again it goes on where it was: what is built, made or trained already is kept. It takes N nodes as DEMO_NODES.
set -euo pipefail
cd "$(dirname "$0")/.."

data=data/shapes
config=configs/shapes-cpu.yaml
run=runs/shapes-cpu
nodes=${DEMO_NODES:-2}

say() { printf '\n== %s\n' "$1"; }

say "Set-up"
bash scripts/setup.sh
orchestrator=(node dist/cli/main.js)

say "Data set: $data"
"${orchestrator[@]}" dataset shapes --out "$data" --count 16000 --seed 0 --refresh
if [ -d "$run" ] && { [ "$data/manifest.json" -nt "$run/config.yaml" ] || [ "$config" -nt "$run/config.yaml" ]; }; then
  aside="$run.$(date +%Y%m%d-%H%M%S)"
  mv "$run" "$aside"
  echo "$run is of an earlier data set or configuration, and is $aside now"
fi

say "Training on $nodes nodes: $config (remove $run to train again from the start)"
"${orchestrator[@]}" launch --nodes "$nodes" "$config" --run-dir "$run" --resume auto

say "Picture"
"${orchestrator[@]}" sample --checkpoint "$run" --prompts configs/shapes-prompts.txt --columns 4 \
  --steps 20 --guidance 2 --seed 1 --out "$run/picture.png"

say "Score"
"${orchestrator[@]}" evaluate --checkpoint "$run" --count 48 --steps 20 --guidance 2 --seed 1 | tee "$run/score.txt"

say "Done in $SECONDS seconds: the picture is $PWD/$run/picture.png, the score $run/score.txt"
