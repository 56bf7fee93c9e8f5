#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The conformance suite over shared memory without single copy: every large message goes through the bulk ring.
MEDLEY_CMA=0 exec tests/conform/transport_shm
