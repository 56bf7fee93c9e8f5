#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How communicators begin and end, over shared memory and over TCP.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s
MEDLEY_TRANSPORT=shm tests/api/test_comms -n 4
MEDLEY_TRANSPORT=tcp tests/api/test_comms -n 3 -t
tests/api/test_config -n 3
tests/api/test_config -n 2 -t
