#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole library where the system refuses calls, memory, rights and resources.
set -eu
export MEDLEY_DEBUG=NONE
exec tests/fault/test_confined
