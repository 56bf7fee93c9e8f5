# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the test scripts share. Sourced: . "${srcdir:-.}/tests/lib.sh"
# Afterwards $top is the source tree, $build the build tree, and $work a new folder that is removed at the end.
set -u
export LC_ALL=C MDL_NO_SETUP=1
unset MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS CDPATH
top=$(cd "${srcdir:-.}" && pwd)
build=$(pwd)
failures=0
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
work=$(mktemp -d "${TMPDIR:-/tmp}/medley-test.XXXXXX") || exit 99
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}
skip() {
  echo "SKIP: $*"
  exit 77
}
need() { command -v "$1" >/dev/null 2>&1 || skip "$1 is not installed"; }
finish() {
  [ "$failures" = 0 ] || exit 1
  exit 0
}

# Runs a command; on failure shows the end of what it said.
quietly() {
  "$@" >"$work/quietly.log" 2>&1 && return 0
  tail -n 40 "$work/quietly.log"
  fail "$*"
  return 1
}

# Names of the project's files, relative to $top: what git knows, or all of an unpacked release. $@: shell patterns of
# the base names.
files() {
  if [ -e "$top/.git" ] && command -v git >/dev/null 2>&1; then
    git -C "$top" ls-files -co --exclude-standard
  else
    (cd "$top" && find . -type f | sed 's|^\./||' | grep -vE '^(build|autom4te|m4/)')
  fi | while read -r file; do
    [ -e "$top/$file" ] || continue
    for pattern; do
      # shellcheck disable=SC2254
      case ${file##*/} in $pattern) echo "$file"; break ;; esac
    done
  done
}

# Copies the sources as a release has them to $1, which can be configured anywhere.
copy_sources() {
  relative=tests/install/copy.$$.tmp
  (cd "$build" && make -s distdir distdir="$relative" && mv "$relative" "$1")
}
