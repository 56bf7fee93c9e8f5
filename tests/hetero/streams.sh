#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What calls on devices' streams promise, on emulated runtimes, in each of the three ways in which streams are held: by
# the vendor's words, by waiting kernels, not at all. Slow streams; words that are there and refused; launches that
# wait; room for few kernels.
. "${srcdir:-.}/tests/hetero/lib.sh"

stream() { tests/hetero/test_stream "$@"; }
kernels=1
[ -n "${MDL_TEST_REAL-}" ] || ${EMUL_CXX-c++} --version > /dev/null 2>&1 || kernels=

use_devices hip:0,cuda:0
stream
use_devices cuda:0
stream # direct
MEDLEY_DEVICE_DIRECT=0 stream
if [ -n "$kernels" ]; then
  export MEDLEY_DEVICE_HOLD=kernel
  use_devices hip:0,cuda:0
  stream
fi
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0

MEDLEY_DEVICE_HOLD=caller stream
MEDLEY_DEVICE_HOLD=words EMUL_DELAY_US=300 stream
if [ -n "$kernels" ]; then
  use_devices cuda:0
  stream returns in_order crossed queued destroy aborted # direct
  export MEDLEY_DEVICE_DIRECT=0                          # a direct communicator has a place for good
  EMUL_DELAY_US=300 stream
  EMUL_RESIDENT=3 stream places many_streams crossed aborted
  use_devices hip:0
  MEDLEY_DEVICE_PATH=hip=$emul/hip5 stream
  EMUL_LEAKS=2 stream ring destroy queued
fi
unset MEDLEY_DEVICE_HOLD

# Without words the kernels are taken, and where these would wait for the host for ever, the callers stay.
use_devices cuda:0
EMUL_FAULT=missing=cuStreamWaitValue64_v2 stream
use_devices hip:0,cuda:0
EMUL_FAULT=nowait stream # the calls are there, and refused
EMUL_FAULT=nowait,nortc stream
EMUL_LEAKS=2 stream ring destroy queued
use_devices cuda:0
EMUL_FAULT=nowait MEDLEY_DEVICE_HOLD=words stream refused
EMUL_FAULT=nortc MEDLEY_DEVICE_HOLD=kernel stream refused
CUDA_LAUNCH_BLOCKING=1 MEDLEY_DEVICE_HOLD=kernel stream refused
CUDA_LAUNCH_BLOCKING=1 EMUL_FAULT=nowait stream stays ring
if [ -n "$kernels" ]; then
  EMUL_FAULT=blocking MEDLEY_DEVICE_HOLD=kernel stream refused # no variable tells of it
  EMUL_RESIDENT=1 MEDLEY_DEVICE_HOLD=kernel stream refused "nothing else goes on"
  EMUL_FAULT=blind MEDLEY_DEVICE_HOLD=kernel stream refused "it does not see what the host writes"
  EMUL_FAULT=nowait,blind stream stays ring
fi
use_devices hip:0
HIP_LAUNCH_BLOCKING=1 MEDLEY_DEVICE_HOLD=kernel stream refused
AMD_SERIALIZE_KERNEL=3 EMUL_FAULT=nowait stream stays
