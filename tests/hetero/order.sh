#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In which order calls of devices reach their streams, on emulated runtimes: staged, attended, direct, passed through, and
# mixtures of these.
# shellcheck source=tests/hetero/lib.sh
. "${srcdir:-.}/tests/hetero/lib.sh"
export EMUL_DEVICES=3 MEDLEY_ONESHOT=0 MEDLEY_WINDOW=4096

all="chain one_stream two_streams crossed messages hosts_too held_round message_first"
# The reductions with a factor in it are to be staged.
with() (
  export EMUL_FAULT="${EMUL_FAULT:+$EMUL_FAULT,}missing=ncclRedOpCreatePreMulSum"
  echo "native $MEDLEY_NATIVE, direct $MEDLEY_DEVICE_DIRECT, faults $EMUL_FAULT: $*"
  tests/hetero/test_order "$@"
)

use_devices cuda:0,cuda:1,cuda:2
export MEDLEY_NATIVE=1 MEDLEY_DEVICE_DIRECT=0
with $all many host_buffers
EMUL_FAULT=nowait with $all many
with late_host no_memory
export MEDLEY_NATIVE=0 MEDLEY_DEVICE_DIRECT=1
with $all many
EMUL_DEPTH=1000 with deep deep_crossed aborted
MEDLEY_DEVICE_STAGING=256K with host_buffers
with late_stream
MEDLEY_DEVICE_DIRECT=0 with late_stream
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0

export MEDLEY_DEVICE_DIRECT=0
with $all many long_messages
MEDLEY_DEVICE_STAGING=64K with $all many overfull long_messages host_buffers
MEDLEY_DEVICE_STAGING=64K MEDLEY_DEVICE_DIRECT=1 with $all many overfull host_buffers
MEDLEY_DEVICE_STAGING=64K EMUL_FAULT=nowait with $all many overfull long_messages
EMUL_DEPTH=1000 with deep deep_crossed aborted
EMUL_FAULT=nowait with $all many aborted
EMUL_FAULT=nowait,missing=cudaEventQuery with $all many
export MEDLEY_NATIVE=1
EMUL_FAULT=nowait EMUL_DELAY_US=200 with $all
EMUL_DEPTH=1000 with deep deep_crossed aborted
