#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Randomised collectives over shared memory: processes and threads, asynchronous streams, each algorithm, each forced fallback.
set -eu
[ -z "${MDL_CHECK_SHORT-}" ] || exec "${srcdir:-.}/tests/coll/short.sh"
run() { tests/coll/test_coll "$@" -d 60; }

export MEDLEY_TRANSPORT=shm
run -n 1 -c 120
run -n 2 -c 150 -s 2
run -n 4 -c 150 -s 3
run -n 7 -c 60 -s 4 -m 5000
run -n 4 -c 100 -s 5 -t
run -n 3 -c 100 -s 6 -a
for algo in $(./medley-info | sed -n "s/^algorithms *//p"); do
  MEDLEY_ALGO=$algo run -n 3 -c 80 -s 7 -m 5000
done
MEDLEY_CMA=0 run -n 3 -c 100 -s 8
MEDLEY_DETERMINISTIC=1 run -n 3 -c 100 -s 9
MEDLEY_WINDOW=4096 run -n 3 -c 100 -s 10
MEDLEY_THREADS=2 run -n 2 -c 60 -s 11 -m 1000000
MEDLEY_FAR_NS=1 run -n 3 -c 60 -s 17 -m 300000 # as if no cache were shared
run -n 4 -c 200 -s 12 -m 200 # payload in the published lines, and the same without
MEDLEY_ONESHOT=0 run -n 4 -c 80 -s 12 -m 200
MEDLEY_DETERMINISTIC=1 run -n 7 -c 80 -s 13 -m 100
run -n 3 -p -m 300000 -s 14
run -n 2 -p -s 15 -t
MEDLEY_CMA=0 run -n 3 -p -s 16
