#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# medleyCommInitAll puts its ranks on the devices of its list, on emulated runtimes: staged, attended, direct and passed
# through.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"
export EMUL_DEVICES=3
run() {
  echo "$* on $MEDLEY_DEVICE"
  env "$@" tests/hetero/test_initall
}
use_devices cuda:0
for MEDLEY_DEVICE in cuda cuda:1; do
  export MEDLEY_DEVICE
  run MEDLEY_NATIVE=0 MEDLEY_DEVICE_DIRECT=0
  run MEDLEY_NATIVE=0 MEDLEY_DEVICE_DIRECT=1
  run MEDLEY_NATIVE=1
done
run MEDLEY_NATIVE=0 MEDLEY_DEVICE_HOLD=caller
use_devices acl:0
run MEDLEY_NATIVE=0 MEDLEY_DEVICE=acl
