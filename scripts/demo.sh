#!/usr/bin/env bash
# From a clean clone to a picture: set-up, a data set, training with two workers, a picture of sixteen prompts,
# its score. Run again it goes on where it was: what is built, made or trained already is kept, and `launch`
# refuses a run of another data set or model. It takes N nodes as DEMO_NODES.
set -euo pipefail
cd "$(dirname "$0")/.."

data=data/shapes
config=configs/shapes-cpu.yaml
run=runs/shapes-cpu
nodes=${DEMO_NODES:-2}

# part NAME TEXT: the part before ends here, and one begins.
parts=()
name=
part() {
  local seconds=$((SECONDS - began))
  [ -z "$name" ] || parts+=("$name $seconds s")
  name=$1 began=$SECONDS
  printf '\n== %s\n' "$2"
}
began=0

echo "Five parts: set-up, data set, training, picture, score. Training takes most of the time, and says how much once its"
echo "first steps have been timed; picture and score then take about a twentieth of that."

part "set-up" "1 of 5, set-up: packages, native addon, command line"
bash scripts/setup.sh
orchestrator=(node dist/cli/main.js)

part "data set" "2 of 5, data set: $data"
"${orchestrator[@]}" dataset shapes --out "$data" --count 16000 --seed 0 --refresh

part "training" "3 of 5, training with $nodes workers: $config (remove $run to train again from the start)"
"${orchestrator[@]}" launch --nodes "$nodes" "$config" --run-dir "$run" --resume auto

part "picture" "4 of 5, picture of the prompts in configs/shapes-prompts.txt"
"${orchestrator[@]}" sample --checkpoint "$run" --prompts configs/shapes-prompts.txt --columns 4 \
  --steps 20 --guidance 2 --seed 1 --out "$run/picture.png"

part "score" "5 of 5, score: other prompts, and what a detector finds in their pictures"
"${orchestrator[@]}" evaluate --checkpoint "$run" --count 48 --steps 20 --guidance 2 --seed 1 | tee "$run/score.txt"

part "" "Done in $SECONDS s"
printf '%s\n' "${parts[@]}" | paste -sd, | sed 's/,/, /g'
echo "picture: $PWD/$run/picture.png"
echo "score:   $PWD/$run/score.txt"
