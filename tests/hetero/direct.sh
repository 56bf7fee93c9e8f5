#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Collectives from device to device, on emulated runtimes: vendors with kernels (direct), with shared memory only (moves),
# and with neither (staged); ranks as processes and threads, several on a device and several devices; what goes wrong.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"
export MEDLEY_NATIVE=0 MEDLEY_DEVICE_DIRECT=1 MEDLEY_ONESHOT=0 EMUL_DEVICES=2 MEDLEY_DEVICE_WINDOW=256K

with() {
  use_devices "$1"
  shift
  echo "devices $MDL_TEST_DEVICES: $*"
  tests/hetero/test_direct "$@"
}

with cuda:0,cuda:1 -x direct
with hip:0 -t -x direct every streams
with musa:0 -x moves every bytes
with tops:0 -x staged every
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0

with hip:0,hip:1 -n 4 -x direct every bytes children killed
with cuda:0,cuda:1,cuda:1 -n 4 -t -x direct
for vendor in dtk supa tang; do with $vendor:0,$vendor:1 -n 2 -x moves every; done
with ze:0 -t -x moves every streams children
with ze:0 -x staged every # its handles are descriptors

# More ranks than a kernel has sources; the canonical tree, where a kernel makes it.
with cuda:0,cuda:1 -n 11 -x direct bits bytes in_order
MEDLEY_DETERMINISTIC=1 with cuda:0,cuda:1 -n 7 -t -x direct bits
MEDLEY_DETERMINISTIC=1 with cuda:0 -n 9 -t -x moves in_order

# Not wanted, or refused to some: all are staged. A compiler that is broken leaves the moves.
MEDLEY_DEVICE_DIRECT=0 with cuda:0 -x staged every
EMUL_FAULT=noipc with cuda:0 -n 2 -x staged every
MEDLEY_DEVICE_HOLD=caller with cuda:0 -n 2 -x staged bits
EMUL_FAULT=nortc with cuda:0 -n 2 -x moves bits in_order

# The same of one rank alone.
with cuda:0 -f noipc -x staged bits in_order
with cuda:0 -f missing=cudaIpcOpenMemHandle -x staged bits in_order
with cuda:0 -f nowait,nortc -n 2 -x staged bits in_order
with cuda:0 -f nortc -n 2 -x moves bits in_order

# Ranks in PID namespaces of their own, as in containers that share a host.
if unshare -p -f true 2> /dev/null || unshare -U -p -f true 2> /dev/null; then
  MDL_TEST_PIDS=0,1,1 with cuda:0,cuda:1 -x direct namespaces in_order killed
else
  echo "not tried: PID namespaces, which this user may not make"
fi

# Nothing is left behind; slow streams; one hardware queue; every thread says which device it means.
EMUL_LEAKS=2 with cuda:0,cuda:1 -x direct streams children
EMUL_LEAKS=2 with hip:0,hip:1 -t -x direct streams children
EMUL_DELAY_US=300 with cuda:0,cuda:1 -x direct streams in_order bits
EMUL_QUEUES=1 EMUL_REQUIRE_ENTER=1 with cuda:0,cuda:1 -n 2 -x direct every

# Streams held by waiting kernels, in processes and in one that has fewer places than ranks.
MEDLEY_DEVICE_HOLD=kernel with cuda:0,cuda:1 -x direct every streams
EMUL_FAULT=nowait with hip:0 -t -x direct streams in_order
MEDLEY_DEVICE_HOLD=kernel EMUL_RESIDENT=3 with cuda:0 -t -n 3 -x staged bits in_order

# A stream takes only so much that has not begun: what is longer is staged, and attended.
EMUL_DEPTH=1000 MEDLEY_DEVICE_DIRECT=0 MEDLEY_WINDOW=4096 with cuda:0 -n 2 -x staged bits
EMUL_DEPTH=1000 MEDLEY_DEVICE_WINDOW=64K with cuda:0 -n 3 -x direct bits
EMUL_DEPTH=1000 MEDLEY_DEVICE_WINDOW=64K with cuda:0 -n 12 -x direct bits

# Random ones, with buffers of the host among them.
random() {
  use_devices "$1"
  shift
  coll "$@"
}
random cuda:0,cuda:1 -n 3 -c 80 -m 70000 -s 71
random hip:0,hip:1 -n 4 -t -c 60 -m 70000 -s 72
MEDLEY_DEVICE_WINDOW=64K random cuda:0 -n 3 -c 40 -m 70000 -s 73
MEDLEY_DEVICE_STAGING=256K random cuda:0 -n 2 -c 40 -m 20000 -s 74
unset MEDLEY_ONESHOT
random cuda:0,cuda:1 -n 3 -c 60 -m 70000 -s 75
