# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What the tests of medley-perf share. Sourced after tests/lib.sh.
perf_program=$build/medley-perf
[ -x "$perf_program" ] || skip "medley-perf was not built"
need timeout
# Neither the user's settings nor a launcher that runs the tests may be seen.
for name in $(env | sed -n 's/^\(\(MEDLEY\|NCCL_TESTS\|OMPI\|PMIX\|PMI\|SLURM\|PRTE\)_[A-Za-z0-9_]*\)=.*/\1/p'); do
  unset "$name"
done
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID JOB_COMPLETION_INDEX

# Runs medley-perf with a limit of its own; leaves $work/out, $work/err and $status.
perf() {
  timeout -k 5 "${limit:-60}" "$perf_program" "$@" >"$work/out" 2>"$work/err" </dev/null
  status=$?
}

show() {
  tail -n 15 "$work/out" "$work/err"
}

# expect STATUS ARG...: medley-perf ends with that status
expect() {
  wanted=$1
  shift
  perf "$@"
  [ "$status" = "$wanted" ] && return 0
  show
  fail "medley-perf $*: exit status $status, not $wanted"
  return 1
}

# said FILE PATTERN WHAT: the file (out or err) has a line with the pattern
said() {
  grep -qE -e "$2" "$work/$1" && return 0
  show
  fail "$3: no '$2' in $1"
  return 1
}

# The lines of results: size count type redop root, then four columns each out of and in place.
rows() { grep -E '^ +[0-9]+ +[0-9]+ +[a-z0-9]+ +[a-z]+ +-?[0-9]+ ' "$work/out"; }
