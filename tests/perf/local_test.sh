#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The processes of --local end together: when one is killed, when the starter is killed or interrupted, when one stands
# still. The id is nowhere to be seen.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"
[ -r /proc/self/stat ] || skip "no /proc"

# The living children of process $1.
children() {
  for stat in /proc/[0-9]*/stat; do
    # pid (name) state parent ...
    sed 's/^\([0-9]*\) .*) \([A-Z]\) \([0-9]*\) .*/\1 \2 \3/' "$stat" 2>/dev/null
  done | awk -v parent="$1" '$3 == parent && $2 != "Z" { print $1 }'
}
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }

# Polls: wait_for SECONDS COMMAND...
wait_for() {
  tries=$(($1 * 20))
  shift
  while [ $tries -gt 0 ]; do
    "$@" && return 0
    tries=$((tries - 1))
    sleep 0.05
  done
  return 1
}
has_rows() { [ "$(rows | wc -l)" -ge 2 ]; }
all_gone() {
  for pid in $pids; do alive "$pid" && return 1; done
  return 0
}

# Starts an endless run of 3 ranks: $starter, $pids.
start() {
  : >"$work/out"
  "$perf_program" all_reduce --local 3 -b 64 -e 64 -n 5 -N 0 "$@" >"$work/out" 2>"$work/err" </dev/null &
  starter=$!
  wait_for 30 has_rows || { show; fail "the endless run does not start"; kill "$starter"; finish; }
  pids=$(children $starter)
  [ "$(echo "$pids" | wc -w)" = 3 ] || fail "there are not 3 processes: $pids"
}
ended() {
  wait_for 30 all_gone || { fail "$1: processes are left: $pids"; kill -9 $pids 2>/dev/null; }
  wait "$starter"
  got=$?
  [ "$got" = "$2" ] || { show; fail "$1: exit status $got, not $2"; }
}

start
for pid in $starter $pids; do
  tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qE '[0-9a-f]{64}' && fail "an id among the arguments of $pid"
  tr '\0' '\n' <"/proc/$pid/environ" | grep -qE '=.*[0-9a-f]{64}' && fail "an id in the environment of $pid"
done
victim=$(echo "$pids" | sed -n 2p)
kill -9 "$victim"
ended "one killed" 3
said err "process [0-2] of 3 \(pid $victim\) was killed by signal 9" "one killed"
said err 'rank [0-2]: all_reduce: ' "one killed: the others say so"

start
kill -9 "$starter"
wait_for 10 all_gone || { fail "starter killed: processes are left"; kill -9 $pids 2>/dev/null; }
wait "$starter" 2>/dev/null

start
kill -TERM "$starter"
ended "starter terminated" 143

# All stand still: only the starter can tell.
start -T 1
kill -STOP $pids
ended "all stopped" 3
said err 'no process got on for 9 s' "all stopped"

# One stands still: the deadline of the others names it.
start -T 1
victim=$(echo "$pids" | sed -n 3p)
kill -STOP "$victim"
ended "one stopped" 3
said err 'rank [0-2]: all_reduce: .*[Tt]ime' "one stopped"

# A process that cannot start.
(ulimit -v 1000 2>/dev/null; limit=20 perf all_reduce --local 2 -b 8 -e 8; exit "$status")
[ $? != 0 ] || fail "processes without memory succeeded"
finish
