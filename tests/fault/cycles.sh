#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A thousand communicators, one after the other, over shared memory and over TCP: nothing is left.
set -eu
export MEDLEY_DEBUG=NONE
for transport in shm tcp; do
  echo "== $transport"
  MEDLEY_TRANSPORT=$transport tests/fault/test_cycles
done
