#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Split, shrink and window: in the background, against other calls, and when they fail.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s
MEDLEY_TRANSPORT=shm tests/api/test_jobs -n 4
MEDLEY_TRANSPORT=tcp tests/api/test_jobs -n 4
MEDLEY_TRANSPORT=shm tests/api/test_jobs -n 4 -t
