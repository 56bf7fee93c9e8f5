#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The mixed suite: which rank has what, of which two vendors beside hosts, how the ranks are linked, how many they are,
# processes or threads, settings of the library and the runtimes, in runs that cover all pairs of these (pairs.awk). Cases
# that cover all pairs of collectives, types, operations, sizes, roots, in place or not (tests/coll/cover.h) are dealt to
# the runs of each number of ranks, several times over. MDL_TEST_SEED repeats what was printed.
# MDL_TEST_WIDE=1: five seeds, and each run has all of these cases.
. "${srcdir:-.}/tests/hetero/lib.sh"
seed=${MDL_TEST_SEED:-$(date +%s)}
runs=0 cases=0 parts=8

# devices PATTERN FIRST SECOND RANKS: the list
devices() {
  awk -v pattern="$1" -v a="$2:0" -v b="$3:0" -v n="$4" 'BEGIN {
    for (r = 0; r < n; r++) {
      d = "host"
      if (pattern == "interleaved") d = r % 2 ? b : a
      if (pattern == "contiguous") d = r < n / 2 ? a : b
      if (pattern == "singletons" && r < 2) d = r ? b : a
      if (pattern == "uneven" && r != 1) d = r ? b : a
      if (pattern == "hosts_between" && r % 2 == 0) d = r % 4 ? b : a
      if (pattern == "shared_device") d = r < n - 1 ? a : b
      printf "%s%s", r ? "," : "", d
    }
  }'
}

# hosts LINKS RANKS: their names
hosts() {
  awk -v links="$1" -v n="$2" 'BEGIN {
    of = links == "two_hosts" ? 2 : links == "three_hosts" ? 3 : n
    for (r = 0; r < n; r++) printf "%sh%d", r ? "," : "", int(r * of / n)
  }'
}

one() {
  first=$1 second=$2 pattern=$3 links=$4 ranks=$5 members=$6 setting=$7
  unset MEDLEY_TRANSPORT MDL_TEST_HOSTS MEDLEY_WINDOW MEDLEY_DETERMINISTIC MEDLEY_NATIVE EMUL_FAULT EMUL_DELAY_US EMUL_QUEUES EMUL_SEED
  export MEDLEY_DEVICE_STAGING=8M MEDLEY_NATIVE=1 MEDLEY_DEVICE_DIRECT=1
  threads=
  [ $members = processes ] || threads=-t
  case $links$threads in
  shm*) export MEDLEY_TRANSPORT=shm ;;
  tcp* | *-t) export MEDLEY_TRANSPORT=tcp ;; # threads are of one host
  *) MDL_TEST_HOSTS=$(hosts $links $ranks) && export MDL_TEST_HOSTS ;;
  esac
  case $setting in
  window) export MEDLEY_WINDOW=4096 ;;
  staging) export MEDLEY_DEVICE_STAGING=1M ;;
  queues) [ -n "$threads" ] || export EMUL_QUEUES=1 ;; # ranks of one process would hold each other up for ever
  delay) export EMUL_DELAY_US=200 EMUL_SEED=$seed ;;
  deterministic) export MEDLEY_DETERMINISTIC=1 ;;
  nowait) export EMUL_FAULT=nowait ;;
  no_native) export MEDLEY_NATIVE=0 ;;
  esac
  use_devices "$(devices $pattern $first $second $ranks)"
  [ -z "${MDL_TEST_VERBOSE-}" ] || echo "$(date +%T) $*: $MDL_TEST_DEVICES"
  runs=$((runs + 1))
  eval "dealt=\$((\${dealt_$ranks:-0} + 1)) dealt_$ranks=\$dealt"
  what="-p -m 6000 -q $(((dealt - 1) % parts + 1))/$parts -s $((seed + (dealt - 1) / parts))"
  [ -z "${MDL_TEST_WIDE-}" ] || what="-p -m 60000 -s $((seed + runs))"
  # shellcheck disable=SC2086
  if said=$(coll -n $ranks $what $threads 2>&1); then
    cases=$((cases + $(echo "$said" | sed -n 's/ cases on.*//p')))
    return 0
  fi
  echo "$said" | tail -n 20
  echo "FAIL: run $runs: $*: devices $MDL_TEST_DEVICES; MDL_TEST_SEED=$seed repeats it"
  exit 1
}

list=$(mktemp) && trap 'rm -f "$list"' EXIT
while :; do
  awk -v seed="$seed" -v vendors="$vendors" -f "${srcdir:-.}/tests/hetero/pairs.awk" >"$list"
  tail -n 1 "$list"
  while read -r line; do
    case $line in "#"*) continue ;; esac
    # shellcheck disable=SC2086
    one $line </dev/null
  done <"$list"
  round=$((${round:-0} + 1))
  [ -n "${MDL_TEST_WIDE-}" ] && [ $round -lt 5 ] || break
  seed=$((seed + 1))
done
for n in 2 3 4 5 6 7 8; do
  eval "dealt=\${dealt_$n:-0}"
  echo "$n ranks: $dealt runs, $((dealt / parts)) times all pairs of cases"
  [ -n "${MDL_TEST_WIDE-}" ] || [ "$dealt" -ge $parts ] || {
    echo "FAIL: too few runs of $n ranks for all cases"
    exit 1
  }
done
echo "$runs runs, $cases cases right"
