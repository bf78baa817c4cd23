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
# Pictures of each of the score's six kinds of prompts.
count=48
set=()

usage() {
  cat <<TEXT
Usage: npm run demo [-- --quick | --steps N]

Sets up, makes a data set, trains, draws a picture and scores the model.

  --quick     600 training steps instead of 2600, and a smaller score: a quarter of the time, and pictures that
              show the right shapes more often than chance, but not yet all of them
  --steps N   N training steps
  --help      this text

Short runs are in a folder of their own, runs/shapes-cpu-N. DEMO_NODES=N trains with N workers (default: 2).
TEXT
}

refuse() {
  echo "error ERR_USAGE: $1" >&2
  echo "hint: npm run demo -- --help" >&2
  exit 2
}

steps=
while [ $# -gt 0 ]; do
  case $1 in
    --quick) steps=600 count=8 ;;
    --steps | --steps=*)
      if [ "$1" = --steps ]; then
        [ $# -gt 1 ] || refuse "--steps needs a number"
        shift
      fi
      steps=${1#--steps=}
      ;;
    -h | --help) usage; exit ;;
    *) refuse "unknown option $1" ;;
  esac
  shift
done
if [ -n "$steps" ]; then
  # The learning rate is warmed up for 50 steps.
  [[ $steps =~ ^[1-9][0-9]{1,6}$ ]] && [ "$steps" -gt 50 ] || refuse "expected more than 50 steps, received $steps"
  run=runs/shapes-cpu-$steps
  # Without warm-up, the average of a short run would hold many of the starting weights.
  set=(--set "schedule.steps=$steps" --set ema.warmup=true)
fi

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
[ -n "$steps" ] || echo "On a slow machine, \`npm run demo -- --quick\` trains for a quarter of the steps."

part "set-up" "1 of 5, set-up: packages, native addon, command line"
bash scripts/setup.sh
orchestrator=(node dist/cli/main.js)

part "data set" "2 of 5, data set: $data"
"${orchestrator[@]}" dataset shapes --out "$data" --count 16000 --seed 0 --refresh

part "training" "3 of 5, training with $nodes workers: $config (remove $run to train again from the start)"
"${orchestrator[@]}" launch --nodes "$nodes" "$config" --run-dir "$run" --resume auto ${set[@]+"${set[@]}"}

part "picture" "4 of 5, picture of the prompts in configs/shapes-prompts.txt"
"${orchestrator[@]}" sample --checkpoint "$run" --prompts configs/shapes-prompts.txt --columns 4 \
  --steps 20 --guidance 2 --seed 1 --out "$run/picture.png"

part "score" "5 of 5, score: other prompts, and what a detector finds in their pictures"
"${orchestrator[@]}" evaluate --checkpoint "$run" --count "$count" --steps 20 --guidance 2 --seed 1 | tee "$run/score.txt"

part "" "Done in $SECONDS s"
printf '%s\n' "${parts[@]}" | paste -sd, | sed 's/,/, /g'
echo "picture: $PWD/$run/picture.png"
echo "score:   $PWD/$run/score.txt"
