#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A short selection among two vendors' devices and hosts, on emulated runtimes, for builds with sanitizers.
. "${srcdir:-.}/tests/hetero/lib.sh"
MDL_TEST_SECONDS=200
# Device memory that the processor may not touch is none of the sanitizers' business, and the runtimes' own handler of
# such a touch says more than theirs.
export ASAN_OPTIONS="handle_segv=0:allow_user_segv_handler=1:${ASAN_OPTIONS-}"

for transport in shm tcp; do
  export MEDLEY_TRANSPORT=$transport
  use_devices cuda:0,host,hip:0
  coll -n 3 -c 40 -m 20000 -s 91
  coll -n 4 -c 40 -m 5000 -s 92 -t
done
unset MEDLEY_TRANSPORT
MEDLEY_DEVICE_HOLD=caller coll -n 3 -c 30 -m 20000 -s 93 -t
use_devices hip:0,cuda:0
tests/hetero/test_stream
MDL_TEST_VENDORS="cuda hip" tests/hetero/test_faults killed/cuda killed/hip mismatch

# Islands, of processes and of threads.
use_devices cuda:0,cuda:1,host,hip:0,hip:1
EMUL_DEVICES=2 MEDLEY_DEVICE_DIRECT=0 MEDLEY_NATIVE=1 tests/hetero/test_islands draw 5 1
EMUL_DEVICES=2 MEDLEY_DEVICE_DIRECT=0 MEDLEY_NATIVE=1 tests/hetero/test_islands broadcast right
EMUL_DEVICES=2 MEDLEY_DEVICE_DIRECT=0 MEDLEY_NATIVE=1 tests/hetero/test_islands draw 5 2 -t
use_devices hip:0,cuda:0

use_devices cuda:0,cuda:0,cuda:0
MEDLEY_STALL=100ms tests/hetero/test_ends stream_gone both_aborted one_destroyed_threads shared_device
use_devices hip:0,cuda:0

# Streams held by waiting kernels, of processes and of threads. Kernels are compiled without the sanitizer, as a device's
# code is, so that it sees of their words only the order that they make.
if ${EMUL_CXX-c++} --version > /dev/null 2>&1; then
  export MEDLEY_DEVICE_HOLD=kernel
  tests/hetero/test_stream returns in_order places crossed aborted
  use_devices cuda:0
  coll -n 3 -c 20 -m 20000 -s 94 -t # direct
  use_devices cuda:0,host,hip:0
  coll -n 3 -c 20 -m 20000 -s 95 -t
fi
