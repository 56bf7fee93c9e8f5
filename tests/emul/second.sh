#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Ranks on a vendor's second device, whose threads never made it current themselves: the library has to enter it for
# every call, on the default stream and on others, with waits for words and without.
. "${srcdir:-.}/tests/lib.sh"
emul=$build/tests/emul
unset EMUL_FAULT
MEDLEY_DEVICE_PATH="cuda=$emul/cuda12,tops=$emul/tops,tx=$emul/tx,acl=$emul/acl"
EMUL_DEVICES=2 EMUL_REQUIRE_ENTER=1
export MEDLEY_DEVICE_PATH EMUL_DEVICES EMUL_REQUIRE_ENTER
for devices in cuda:1 cuda:0,cuda:1 tops:1 acl:1,tx:1,host; do
  for streams in 0 1; do
    for fault in none nowait; do
      EMUL_FAULT=$fault quietly ./medley-perf all_reduce --local 3 --device $devices -b 8 -e 64K -f 64 -c 1 -n 2 -w 1 \
        -y $streams || fail "$devices, -y $streams, EMUL_FAULT=$fault"
    done
  done
done
finish
