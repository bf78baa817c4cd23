# Sourced: find_compiler prints a C++ compiler that is new enough (GCC 12: C++20 and __builtin_shufflevector),
# or fails. CXX is taken where it is set and new enough; distributions with an older default have newer ones
# beside it.

find_compiler() { # [PREFIX of a cross compiler's name]
  local candidate major
  [ -n "${1:-}" ] || set -- "" ${CXX:+"$CXX"}
  for candidate in "${@:2}" "$1"g++ "$1"g++-12 "$1"g++-13 "$1"g++-14 "$1"g++-15; do
    major=$("$candidate" -dumpversion 2>/dev/null | cut -d. -f1) || continue
    if "$candidate" --version 2>/dev/null | grep -q clang; then continue; fi
    if [ -n "$major" ] && [ "$major" -ge 12 ] 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

# The package that brings one: g++, unless this system's g++ is older.
compiler_package() {
  local version
  version=$(g++ -dumpversion 2>/dev/null || apt-cache policy g++ 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]*\).*/\2/p')
  version=${version%%.*}
  if [ -n "$version" ] && [ "$version" -lt 12 ] 2>/dev/null; then echo g++-12; else echo g++; fi
}
