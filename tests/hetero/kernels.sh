#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Reductions on devices have the host's bits: on each vendor that has a run-time compiler.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"

ran=0
reduce() {
  status=0
  tests/hetero/test_kernels "$@" || status=$?
  [ $status = 77 ] || ran=1
  [ $status = 0 ] || [ $status = 77 ] || exit $status
}
export POCL_DEVICES="pthread"
reduce opencl:0
for name in cuda hip; do
  use_devices $name:0
  reduce $name:0
done
[ $ran = 1 ] || exit 77
