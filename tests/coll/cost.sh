#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions of one small call, counted by callgrind where times would be noise: a bound against growth. The call is
# that of the later of two ranks, which finds everything there (test_cost.c). The bounds are what was measured with GCC 12
# -O2 on x86-64 plus a tenth.
. "${srcdir:-.}/tests/lib.sh"
need valgrind
[ "$(uname -m)" = x86_64 ] || skip "the bounds are for x86-64"
export MEDLEY_DEBUG=NONE
"$build/tests/coll/test_cost" optimized || skip "the bounds are for optimised builds without sanitizers"

# $1: collective, $2: bytes, $3: most instructions of one call
bound() {
  quietly valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect=measured \
    "$build/tests/coll/test_cost" "$1" "$2" || return
  calls=$(sed -n 's/ calls$//p' "$work/quietly.log")
  all=$(sed -n 's/.*Collected : *\([0-9]*\).*/\1/p' "$work/quietly.log")
  if [ -z "$calls" ] || [ -z "$all" ] || [ "$all" -lt 1000 ]; then
    cat "$work/quietly.log"
    fail "$1 of $2 bytes: callgrind counted nothing"
    return
  fi
  echo "$1 of $2 bytes: $((all / calls)) instructions, at most $3"
  [ $((all / calls)) -le "$3" ] || fail "$1 of $2 bytes takes $((all / calls)) instructions, more than $3"
}
bound allreduce 8 1600
bound broadcast 8 1150
bound barrier 0 1000
finish
