#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Strangers at the doors of a job, while it starts and while it works.
set -eu
export MEDLEY_DEBUG=NONE
exec tests/fault/test_hostile
