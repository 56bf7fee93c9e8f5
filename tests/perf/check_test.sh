#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# That the check can fail: one spoiled element of one rank ends every collective with status 1. And the gates by
# bandwidth.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"

# In every collective, at one size of two: exactly there, one element, out of place and in place.
export MEDLEY_PERF_CORRUPT=1:2K
expect 1 all --local 4 -b 1K -e 2K -f 2 -n 1
said out 'MEDLEY_PERF_CORRUPT: the results of rank 1 are spoiled' "warning"
rows | awk '$2 { print $9, $13 }' | sort | uniq -c >"$work/found"
awk '{ seen[$2 " " $3] = $1 } END { exit !(seen["1 1"] == 11 && seen["1 N/A"] == 2 && seen["0 0"] == 11 && seen["0 N/A"] == 2) }' \
  "$work/found" || { cat "$work/found"; show; fail "not every collective saw it"; }
[ "$(grep -c 'Out of bounds values : [12] FAILED' "$work/out")" = 13 ] || fail "the feet do not all say FAILED"

# With every type and operation, and with threads as ranks.
export MEDLEY_PERF_CORRUPT=0
expect 1 reduce_scatter -t 2 -o all -d all -b 64 -e 64 -n 1
[ "$(rows | awk '$9 == 1 && $13 == 1' | wc -l)" = 72 ] || { rows; fail "reduce_scatter: not all types and operations"; }
expect 0 reduce_scatter -t 2 -c 0 -b 64 -e 64 -n 1 # nobody looks
unset MEDLEY_PERF_CORRUPT
expect 0 reduce_scatter -t 2 -o all -d all -b 64 -e 64 -n 1
[ "$(rows | awk '$9 == 0 && $13 == 0' | wc -l)" = 72 ] || { rows; fail "reduce_scatter: wrong data"; }

# The gates: 0.9 of the value, the own name before nccl-tests'.
for name in MEDLEY_PERF_MIN_BW NCCL_TESTS_MIN_BW; do
  export $name=1000000
  expect 1 all_reduce -t 2 -b 1K -e 1K -n 1
  said out 'Avg bus bandwidth    : [0-9.e-]+ FAILED' "$name"
  export $name=0
  expect 0 all_reduce -t 2 -b 1K -e 1K -n 1
  said out 'Avg bus bandwidth    : [0-9.e-]+ OK' "$name"
  unset $name
done
export MEDLEY_PERF_MIN_BW=0 NCCL_TESTS_MIN_BW=1000000
expect 0 all_reduce -t 2 -b 1K -e 1K -n 1
finish
