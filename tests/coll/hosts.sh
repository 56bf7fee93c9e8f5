#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Randomised collectives on several hosts that are hosts by name only (MEDLEY_HOST_ID): shared memory inside, TCP across.
set -eu
run() { tests/coll/test_coll "$@" -m 20000 -d 60; }

for hosts in a,b,a,b,a a,a,b,b,b a,b,b,b,c; do
  export MDL_TEST_HOSTS=$hosts
  run -n 5 -c 30 -s 41
  MEDLEY_ALGO=hier MEDLEY_WINDOW=4096 run -n 5 -c 40 -s 42
  MEDLEY_ALGO=hier MEDLEY_DETERMINISTIC=1 run -n 5 -c 20 -s 43
done
# Two levels by messages only.
MDL_TEST_HOSTS=a,a,b,b,b MEDLEY_ALGO=hier MEDLEY_TRANSPORT=tcp run -n 5 -c 40 -s 44
MDL_TEST_HOSTS=a,a,b tests/coll/test_coll -n 3 -p -s 45 -d 60
