# Sourced: runs checks and tests, and notes in the folder $RESULTS what came of them, for scripts/test-summary.mjs.
# NAME, which tells runs apart, is a word; each of these returns the exit code of what it ran.

note() { # check|native|vitest|skip NAME EXIT-CODE
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$RESULTS/runs.tsv"
}

# How the C++ tests are started.
ORCH_TEST=(build/orch_test)

native_tests() { # NAME [PART OF A TEST'S NAME]...
  local name=$1 status
  shift
  "${ORCH_TEST[@]}" "$@" 2>&1 | tee "$RESULTS/$name.txt"
  status=${PIPESTATUS[0]}
  note native "$name" "$status"
  return "$status"
}

# The Node.js that runs the TypeScript tests.
NODE=node

typescript_tests() { # NAME [PATH]...
  local name=$1 status=0
  shift
  "$NODE" node_modules/.bin/vitest run --reporter=default --reporter=json --outputFile.json="$RESULTS/$name.json" "$@" || status=$?
  note vitest "$name" "$status"
  return "$status"
}
