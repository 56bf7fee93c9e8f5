#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Randomised collectives over TCP on loopback: processes and threads, asynchronous streams, each algorithm.
set -eu
run() { tests/coll/test_coll "$@" -d 60; }

export MEDLEY_TRANSPORT=tcp
run -n 2 -c 100 -s 2
run -n 4 -c 100 -s 3
run -n 7 -c 40 -s 4 -m 5000
run -n 4 -c 60 -s 5 -t
run -n 3 -c 60 -s 6 -a
for algo in $(./medley-info | sed -n "s/^algorithms *//p"); do
  MEDLEY_ALGO=$algo run -n 3 -c 50 -s 7 -m 5000
done
MEDLEY_DETERMINISTIC=1 run -n 3 -c 60 -s 9
MEDLEY_WINDOW=4096 run -n 3 -c 60 -s 10
run -n 3 -p -m 300000 -s 14
