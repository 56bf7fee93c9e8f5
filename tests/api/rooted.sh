#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Small collectives with a root, whose ranks need not meet: they run ahead, and what does not match is found all the same.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s MEDLEY_TIMEOUT=20s MEDLEY_STALL=30ms MEDLEY_HEARTBEAT=300ms MEDLEY_TRANSPORT=shm
tests/api/test_rooted -n 4
tests/api/test_rooted -n 2 -t
MEDLEY_TIMEOUT=1s tests/api/test_rooted -n 3 -t full_ring_names_who_is_late
