#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The promises of the API on both transports, ranks as processes and as threads.
set -eu
export MEDLEY_DEBUG=NONE
for transport in shm tcp; do
  MEDLEY_TRANSPORT=$transport tests/coll/test_api -n 3
  MEDLEY_TRANSPORT=$transport tests/coll/test_api -n 4 -t
done
