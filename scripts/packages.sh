# Sourced: installs system packages where something they provide is missing. Debian and Ubuntu.
#
#   require_packages "what for" package:test ...   (each test is a command that succeeds where the package is there)
#
# Without root and without a usable sudo it prints the exact command to run and exits 2.
#
#   packages_of LIST   sets the array `packages` to the entries of such a call, from a list of packages

require_packages() {
  local purpose=$1 missing=()
  shift
  for entry in "$@"; do
    bash -c "${entry#*:}" >/dev/null 2>&1 && continue
    [[ " ${missing[*]} " == *" ${entry%%:*} "* ]] || missing+=("${entry%%:*}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  echo "Missing system packages ($purpose): ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "There is no apt-get here. Install what these Debian packages hold, then run this again." >&2
    exit 2
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      echo "Installing them needs root. Run this, then try again:" >&2
      echo "  sudo apt-get update && sudo $install" >&2
      exit 2
    fi
    as_root=(sudo)
  fi
  echo "Installing them: $install"
  local log
  log=$(mktemp)
  # RUNLEVEL=1: services of the packages are not started.
  if ! { "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=300 ${install#apt-get }; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "apt-get failed; its whole output is in $log" >&2
    exit 1
  fi
  rm -f "$log"
}

packages_of() {
  local names programs name program tests
  packages=()
  while read -r names programs; do
    [[ -n $names && $names != '#'* ]] || continue
    tests=
    for program in ${programs//|/ }; do tests+="${tests:+ || }command -v $program"; done
    if ! bash -c "$tests" >/dev/null 2>&1; then
      # A fresh container's lists are empty, and would know no name.
      apt-cache show "${names%%|*}" >/dev/null 2>&1 || [[ $names != *'|'* || $(id -u) -ne 0 ]] || apt-get update >/dev/null 2>&1
      for name in ${names//|/ }; do
        ! apt-cache show "$name" >/dev/null 2>&1 || break
      done
    else
      name=${names%%|*}
    fi
    packages+=("$name:$tests")
  done <"$1"
}
