#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Streams and events, over shared memory and over TCP.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s
for transport in shm tcp; do
  MEDLEY_TRANSPORT=$transport tests/api/test_streams -n 3
  MEDLEY_TRANSPORT=$transport tests/api/test_streams -n 4 -t
done
