#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Islands of mixed communicators (lib/engine/island.h) on emulated runtimes and libraries: placements, what vendors lack,
# settings, scenes of errors.
. "${srcdir:-.}/tests/hetero/lib.sh"
export MEDLEY_NATIVE=1 MEDLEY_ISLANDS=1 MEDLEY_DEVICE_DIRECT=0 EMUL_DEVICES=4 MDL_TEST_HOST_BUFFERS=1

# devices, program's arguments
islands() {
  use_devices "$1"
  shift
  tests/hetero/test_islands "$@" && return 0
  echo "FAIL: devices $MDL_TEST_DEVICES: $*"
  exit 1
}

five=cuda:0,cuda:1,host,hip:0,hip:1
islands cuda:0,cuda:1,hip:0,hip:1,host,cuda:2 draw 20 1 # uneven
islands $five right told told_none off deterministic one_is_off no_init differ slow held group children
islands $five killed_member killed_host late_member late_host mismatch_member mismatch_host aborted
for coll in broadcast reduce allgather reducescatter; do
  islands $five $coll right held killed_member
done
islands $five one_thread
# Libraries that make a call wait until all ranks have called it.
EMUL_FAULT=cclconnect MEDLEY_WINDOW=16384 islands $five one_thread right killed_member broadcast killed_member
MEDLEY_WINDOW=16384 islands host,tops:0,tops:1,tops:2,acl:0,acl:1 draw 12 2 # streams are attended; no groups, no aborts
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0

MEDLEY_TRANSPORT=tcp islands cuda:0,cuda:1,hip:0,hip:1,host,cuda:2 draw 12 3 -t # of one process
MDL_TEST_HOSTS=a,a,b,b,a,b,c islands cuda:0,cuda:1,cuda:2,cuda:3,host,host,hip:0 draw 12 4
MEDLEY_WINDOW=32768 islands cnrt:0,cnrt:1,cuda:0,cuda:0,cuda:1 draw 12 5 # two on a device
EMUL_FAULT=nowait MEDLEY_WINDOW=16384 islands $five draw 12 6
EMUL_DELAY_US=300 MEDLEY_VERIFY=1 islands $five draw 12 7
EMUL_QUEUES=1 EMUL_REQUIRE_ENTER=1 islands $five draw 12 8
MDL_TEST_ISLANDS=0 MEDLEY_NATIVE=0 islands $five draw 12 9
islands tops:0,tops:1,host,cnrt:0,cnrt:1 right slow group children killed_host late_host mismatch_host # attended
for coll in broadcast reduce allgather reducescatter; do
  islands $five $coll killed_host late_member late_host mismatch_member mismatch_host aborted
done
EMUL_FAULT=cclconnect islands $five right group allgather right reducescatter killed_member
EMUL_FAULT=cclconnect islands $five draw 12 10 -t
EMUL_FAULT=cclconnect,nowait islands $five one_thread # attended
