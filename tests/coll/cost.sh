#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Instructions of one small call, counted by callgrind where times would be noise: a bound against growth. The call is
# that of the later of two ranks, which finds everything there (test_cost.c). The bounds are what was measured with GCC 12
# -O2 on x86-64 plus a tenth (all-reduce: 1320, or 1460 if the other rank has to be woken up).
. "${srcdir:-.}/tests/lib.sh"
need valgrind
[ "$(uname -m)" = x86_64 ] || skip "the bounds are for x86-64"
export MEDLEY_DEBUG=NONE
"$build/tests/coll/test_cost" optimized || skip "the bounds are for optimised builds without sanitizers"

# $1: collective, $2: bytes, $3: most instructions of one call. The least of 16 calls counts: in some of them the rank
# that should be there already is late.
bound() {
  rm -f "$work"/out*
  quietly valgrind --tool=callgrind --callgrind-out-file="$work/out" --toggle-collect=measured --dump-after=measured \
    "$build/tests/coll/test_cost" "$1" "$2" || return
  least=$(sed -n 's/^totals: *//p' "$work"/out.* | grep -v '^0$' | sort -n | head -n 1)
  if [ -z "$least" ]; then
    cat "$work/quietly.log"
    fail "$1 of $2 bytes: callgrind counted nothing"
    return
  fi
  echo "$1 of $2 bytes: $least instructions, at most $3"
  [ "$least" -le "$3" ] || fail "$1 of $2 bytes takes $least instructions, more than $3"
}
bound allreduce 8 1600
bound broadcast 8 1020
bound barrier 0 1080
finish
