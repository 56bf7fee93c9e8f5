#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Captured streams are refused, and captures are not spoilt: on each emulated vendor that has them, in each way that calls
# go and streams are held.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"

for vendor in cuda hip dtk iluvatar ppu kunlun musa maca tang; do
  use_devices $vendor:0
  echo "$vendor"
  tests/hetero/test_capture staged
  [ -z "${MDL_CHECK_SHORT-}" ] || exit 0
done
export EMUL_DEVICES=3 MEDLEY_ONESHOT=0
for vendor in cuda hip musa; do
  use_devices $vendor:0,$vendor:1,$vendor:2
  [ $vendor = musa ] || MEDLEY_NATIVE=0 tests/hetero/test_capture direct
  tests/hetero/test_capture native
done
use_devices cuda:0
MEDLEY_DEVICE_PATH=cuda=$emul/cuda13 tests/hetero/test_capture
MEDLEY_DEVICE_HOLD=caller tests/hetero/test_capture
if ${EMUL_CXX-c++} --version > /dev/null 2>&1; then MEDLEY_DEVICE_HOLD=kernel tests/hetero/test_capture; fi
