#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A short selection of the collectives' tests, for builds with sanitizers.
set -eu
export MEDLEY_DEBUG=NONE
for transport in shm tcp; do
  export MEDLEY_TRANSPORT=$transport
  tests/coll/test_coll -n 3 -c 50 -m 20000 -d 200
  tests/coll/test_coll -n 3 -c 50 -m 20000 -s 2 -t -d 200
  tests/coll/test_coll -n 2 -c 30 -m 20000 -s 3 -t -a -d 200
  tests/coll/test_api -n 3 -t exchange all_pairs split shrink streams mismatch_count mismatch_message mismatch_order
done
