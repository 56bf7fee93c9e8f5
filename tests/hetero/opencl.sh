#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# OpenCL devices: the contract, and the randomised collectives on two devices with a host between them. PoCL makes two
# devices of this machine's processors if it is what is installed.
set -eu
export POCL_DEVICES="pthread pthread"

status=0
tests/hetero/test_opencl || status=$?
[ $status = 0 ] || exit $status # 77: there is no OpenCL here
tests/hetero/test_device opencl
[ ! -x tests/unit/test_dev_ops ] || tests/unit/test_dev_ops opencl:0
second=opencl:1
tests/hetero/test_device $second || second=opencl:0 # real hardware may have one device only

MDL_TEST_DEVICES=opencl:0,$second tests/hetero/test_stream
run() { tests/coll/test_coll "$@" -d 100; }
export MDL_TEST_DEVICES=opencl:0,host,$second
MEDLEY_TRANSPORT=shm run -n 3 -c 60 -s 31
MEDLEY_TRANSPORT=tcp run -n 3 -c 60 -s 32
run -n 4 -c 60 -s 33 -t
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0
MDL_TEST_HOSTS=a,b,b,a run -n 4 -c 40 -s 34 -m 20000
MEDLEY_DEVICE_STAGING=2M run -n 3 -c 40 -s 35
MEDLEY_WINDOW=4096 run -n 3 -c 40 -s 36 -m 20000
MEDLEY_DETERMINISTIC=1 run -n 3 -c 40 -s 37 -m 20000
run -n 3 -c 20 -s 38 -m 1000000
run -n 3 -p -m 50000 -s 39
MDL_TEST_DEVICES=opencl:0,$second run -n 2 -p -m 50000 -s 40 -t

# What starts the ranks has no threads of a device's runtime: they would take the signals that tell of the ranks' ends.
./medley-perf all_reduce --local 2 --device opencl:0 -b 8 -e 8 -n 100000000 -T 0 >/dev/null 2>&1 &
starter=$!
tries=300
until [ "$(wc -w <"/proc/$starter/task/$starter/children")" -ge 2 ]; do
  tries=$((tries - 1))
  [ $tries -gt 0 ] || break
  sleep 0.1
done
threads=$(ls "/proc/$starter/task" | wc -l)
kill $starter
status=0
wait $starter || status=$?
[ "$tries" -gt 0 ] && [ "$threads" = 1 ] && [ $status = 143 ] ||
  { echo "medley-perf --local: $threads threads where 1 is right, exit status $status where 143 is right" >&2; exit 1; }
