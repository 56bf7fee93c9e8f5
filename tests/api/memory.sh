#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Buffers and operations, over shared memory and over TCP.
set -eu
export MEDLEY_DEBUG=NONE MEDLEY_INIT_TIMEOUT=30s
small="allocate kinds sub_ranges registration windows premul_types premul_rules in_place unaligned"
MEDLEY_TRANSPORT=shm tests/api/test_memory -n 3 $small
MEDLEY_TRANSPORT=shm tests/api/test_memory -n 4 -t $small
MEDLEY_TRANSPORT=shm MEDLEY_CMA=0 tests/api/test_memory -n 4 $small
MEDLEY_TRANSPORT=tcp tests/api/test_memory -n 3 $small
MEDLEY_TRANSPORT=shm tests/api/test_memory -n 2 huge
tests/api/test_memory -n 1 in_place
