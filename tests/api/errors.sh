#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Errors, the log, statistics, and what each kind of variable does: the environment's part of the contract.
. "${srcdir:-.}/tests/lib.sh"
set -u
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s MEDLEY_TIMEOUT=20s

for run in "shm -n 4 -t" "tcp -n 3"; do
  for program in test_errors test_stats; do
    # shellcheck disable=SC2086
    MEDLEY_TRANSPORT=${run%% *} tests/api/$program ${run#* } || fail "$program, $run"
  done
done

# What a communicator of two threads says in the environment $@.
try() { env "$@" tests/api/test_errors -n 2 -t environment 2>&1; }
# The output with the environment $2... has $1, a pattern of grep.
says() {
  pattern=$1
  shift
  try "$@" >"$work/out"
  grep -q -e "$pattern" "$work/out" && return
  tail -n 5 "$work/out"
  fail "\"$pattern\" is not said with $*"
}
silent() {
  pattern=$1
  shift
  try "$@" >"$work/out"
  ! grep -q -e "$pattern" "$work/out" && return
  fail "\"$pattern\" is said with $*"
}

# Wrong values: the variable, the value and what is allowed.
says "^refused: MEDLEY_THREADS: 'many' must be a whole number from 0 to 256" MEDLEY_THREADS=many
says "^refused: MEDLEY_THREADS: '257'" MEDLEY_THREADS=257
says "^refused: MEDLEY_THREADS: '2x'" MEDLEY_THREADS=2x
says "^refused: MEDLEY_TIMEOUT: 'soon' must be a time" MEDLEY_TIMEOUT=soon
says "^refused: MEDLEY_TIMEOUT: '5 h'" "MEDLEY_TIMEOUT=5 h"
says "^refused: MEDLEY_WINDOW: '1T' must be a size from 4K to 1G" MEDLEY_WINDOW=1T
says "^refused: MEDLEY_DETERMINISTIC: 'maybe' must be 0 or 1" MEDLEY_DETERMINISTIC=maybe
says "^refused: MEDLEY_COMM_NAME: .* at most 63" MEDLEY_COMM_NAME="$(printf '%064d' 1)"
says "^refused: device .cuda:1. cannot be used: no such device on this machine" MEDLEY_DEVICE=cuda:1
says "^refused: MEDLEY_CPU_SET=x" MEDLEY_CPU_SET=x
says "^refused: .*MEDLEY_SIMD\|^refused: .*simd" MEDLEY_SIMD=mmx
says "^transport: shm" MEDLEY_THREADS= MEDLEY_WINDOW= MEDLEY_TRANSPORT= MEDLEY_CPU_SET=
says "^transport: shm" MEDLEY_TIMEOUT=1min "MEDLEY_WINDOW= 64 k " MEDLEY_DETERMINISTIC=Yes

# Unknown variables: a warning with a suggestion, no value of it, and only from WARN on.
says "MEDLEY_TRANSPROT is not known and was ignored: did you mean MEDLEY_TRANSPORT?" MEDLEY_DEBUG=WARN MEDLEY_TRANSPROT=hush
silent "hush" MEDLEY_DEBUG=WARN MEDLEY_TRANSPROT=hush
says "MEDLEY_FLUX_CAPACITOR is not known and was ignored (see medley-info --env)" MEDLEY_DEBUG=WARN MEDLEY_FLUX_CAPACITOR=1
silent "is not known" MEDLEY_DEBUG=VERSION MEDLEY_TRANSPROT=1
silent "is not known" MEDLEY_DEBUG=WARN MEDLEY_PERF_THING=1

# Levels and subsystems.
silent " medley " MEDLEY_DEBUG=NONE MEDLEY_THREADS=x
says " medley WARN .*MEDLEY_THREADS" MEDLEY_DEBUG=WARN MEDLEY_THREADS=x
silent " medley INFO " MEDLEY_DEBUG=WARN
says " medley INFO INIT " MEDLEY_DEBUG=INFO
silent " medley TRACE " MEDLEY_DEBUG=INFO
says " medley INFO INIT " MEDLEY_DEBUG=info MEDLEY_DEBUG_SUBSYS=INIT
silent " medley INFO BOOT " MEDLEY_DEBUG=INFO MEDLEY_DEBUG_SUBSYS=INIT
silent " medley INFO INIT " MEDLEY_DEBUG=INFO MEDLEY_DEBUG_SUBSYS=^INIT
says " medley INFO BOOT " MEDLEY_DEBUG=INFO MEDLEY_DEBUG_SUBSYS=^INIT
says "MEDLEY_DEBUG: 'LOUD' is no level" MEDLEY_DEBUG=LOUD
says "MEDLEY_DEBUG_SUBSYS: there is no subsystem 'WEATHER'" MEDLEY_DEBUG=WARN MEDLEY_DEBUG_SUBSYS=INIT,WEATHER

# The log in a file: %h, %p and %%.
silent " medley INFO " MEDLEY_DEBUG=INFO MEDLEY_DEBUG_FILE="$work/log.%h.%p.100%%"
set -- "$work"/log.*
case ${1##*/} in
"log.$(uname -n)."[0-9]*".100%") grep -q " medley INFO INIT " "$1" || fail "the log file has no log" ;;
*) fail "the log file is called $1" ;;
esac
says "MEDLEY_DEBUG_FILE: cannot open" MEDLEY_DEBUG=WARN MEDLEY_DEBUG_FILE=/nowhere/log

# Transports, and what may be demanded of them.
says "^transport: tcp" MEDLEY_TRANSPORT=tcp
says "^transport: shm" MEDLEY_TRANSPORT=tcp,shm
says "^refused: .*pigeon" MEDLEY_TRANSPORT=pigeon
says "^refused: .*MEDLEY_TRANSPORT is self" MEDLEY_TRANSPORT=self
says "^transport: shm" MEDLEY_REQUIRE=shm,map,cma
says "^transport: tcp" MEDLEY_TRANSPORT=tcp MEDLEY_REQUIRE=tcp
says "^refused: MEDLEY_REQUIRE demands shm" MEDLEY_TRANSPORT=tcp MEDLEY_REQUIRE=shm
says "^refused: MEDLEY_REQUIRE demands tcp" MEDLEY_TRANSPORT=shm MEDLEY_REQUIRE=tcp
says "^refused: MEDLEY_REQUIRE demands cma" MEDLEY_CMA=0 MEDLEY_REQUIRE=cma
says "^refused: MEDLEY_REQUIRE names .speed.*map,cma" MEDLEY_REQUIRE=speed

# Every algorithm: forced where it has the collective, else another one does the work and the result is right.
check_algo() { # algorithm, transport, the collectives that it has there
  MEDLEY_ALGO=$1 MEDLEY_TRANSPORT=$2 tests/api/test_errors -n 4 environment >"$work/algo" 2>&1 || {
    cat "$work/algo"
    fail "MEDLEY_ALGO=$1 over $2"
  }
  [ "$(grep -c '^[A-Z][A-Za-z]*: [a-z]' "$work/algo")" = 12 ] || fail "MEDLEY_ALGO=$1 over $2: not all collectives have run"
  for coll in $3; do grep -q "^$coll: $1\$" "$work/algo" || fail "MEDLEY_ALGO=$1 over $2 was not used for $coll"; done
}
reduce="AllReduce Reduce ReduceScatter ReduceScatterV" move="AllGather Gather Scatter AlltoAll"
for algo in $(./medley-info | sed -n "s/^algorithms *//p"); do
  tcp=
  case $algo in
  direct) has="$reduce $move Broadcast AllGatherV" ;;
  oneshot) has="AllReduce Reduce ReduceScatter $move Broadcast Barrier" ;;
  staged) has="$reduce $move Broadcast AllGatherV" ;;
  ring) tcp="$reduce Broadcast AllGather AllGatherV" has=$tcp ;;
  recdbl) tcp="AllReduce AllGather Barrier" has=$tcp ;;
  rabenseifner) tcp="AllReduce Reduce" has=$tcp ;;
  binomial) tcp="Reduce Broadcast Gather Scatter Barrier" has=$tcp ;;
  dbtree) tcp="AllReduce Reduce Broadcast" has=$tcp ;;
  bruck) tcp="AllGather AlltoAll" has=$tcp ;;
  pairwise) tcp="$reduce $move AllGatherV AlltoAllV" has=$tcp ;;
  hier) has="" ;;
  *) fail "no expectation for algorithm $algo" ;;
  esac
  check_algo "$algo" shm "$has"
  check_algo "$algo" tcp "$tcp"
done
MDL_TEST_HOSTS=a,a,b,b check_algo hier shm,tcp "$reduce Broadcast AllGather AllGatherV Barrier"
says "^refused: MEDLEY_ALGO: there is no algorithm .fastest.; there are direct" MEDLEY_ALGO=fastest
says "^refused: MEDLEY_ALGO: there is no collective .allsum." MEDLEY_ALGO=allsum:ring
says "^AllReduce: ring" MEDLEY_ALGO=allreduce:ring,broadcast:^binomial MEDLEY_TRANSPORT=tcp
silent "^Broadcast: binomial" MEDLEY_ALGO=allreduce:ring,broadcast:^binomial MEDLEY_TRANSPORT=tcp
finish
