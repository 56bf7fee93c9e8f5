#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Calls that do not match, of all kinds, over shared memory and over TCP.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s MEDLEY_TIMEOUT=20s MEDLEY_STALL=30ms MEDLEY_HEARTBEAT=300ms
MEDLEY_TRANSPORT=shm tests/api/test_mismatch -n 4
MEDLEY_TRANSPORT=tcp tests/api/test_mismatch -n 4 -t '*/120' '*/300000'
MEDLEY_TRANSPORT=shm MEDLEY_CMA=0 tests/api/test_mismatch -n 2 -t '*/20000'
MEDLEY_TRANSPORT=tcp tests/api/test_mismatch -n 2 '*/120'
