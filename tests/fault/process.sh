#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Forks, exec, signals, exit and unloading, over shared memory and over TCP.
set -eu
export MEDLEY_DEBUG=NONE
for transport in shm tcp; do
  echo "== $transport"
  MEDLEY_TRANSPORT=$transport tests/fault/test_process
done
