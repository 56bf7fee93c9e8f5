#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A thousand communicators, one after the other, over shared memory and over TCP: nothing is left.
set -eu
export MEDLEY_DEBUG=NONE
# A rank that waits this long asks its peers, by connections that stay as long as the communicator: on a busy machine they
# would be counted.
export MEDLEY_STALL=60s
for transport in shm tcp; do
  echo "== $transport"
  MEDLEY_TRANSPORT=$transport tests/fault/test_cycles
done
