#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What ends while calls are outstanding, staged, direct and passed through, on emulated runtimes.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"
export EMUL_DEVICES=3 MEDLEY_STALL=100ms

ends() {
  echo "devices $MDL_TEST_DEVICES, native $MEDLEY_NATIVE, direct $MEDLEY_DEVICE_DIRECT, hold ${MEDLEY_DEVICE_HOLD-}: $*"
  tests/hetero/test_ends "$@"
}

for devices in cuda:0,cuda:1,cuda:2 cuda:0,cuda:0,cuda:0 hip:0,hip:1,hip:2 cuda:0,hip:0,cuda:0; do
  use_devices $devices
  export MEDLEY_NATIVE=1 MEDLEY_DEVICE_DIRECT=1
  ends non_blocking stream_gone both_aborted one_destroyed one_destroyed_threads shared_device
  [ -z "${MDL_CHECK_SHORT-}" ] || continue
  export MEDLEY_NATIVE=0
  ends non_blocking stream_gone too_many both_aborted one_destroyed one_destroyed_threads shared_device
  export MEDLEY_DEVICE_DIRECT=0
  ends non_blocking stream_gone too_many both_aborted one_destroyed one_destroyed_threads shared_device
done
use_devices cuda:0,cuda:0,cuda:0
MEDLEY_DEVICE_HOLD=kernel ends non_blocking stream_gone too_many both_aborted one_destroyed one_destroyed_threads shared_device
