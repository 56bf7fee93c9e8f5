#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Vendors mixed in one communicator, on emulated runtimes (tests/emul): which rank has which device x collectives x types
# x operations x sizes x transports. Each run covers all pairs of its own factors (-p) or draws; the runs cover the
# assignments. MDL_TEST_WIDE=1 repeats all with five seeds and each vendor in each pattern.
. "${srcdir:-.}/tests/hetero/lib.sh"

with() {
  use_devices "$1"
  shift
  echo "devices $MDL_TEST_DEVICES: $*"
  coll "$@"
}
wide() { [ -n "${MDL_TEST_WIDE-}" ]; }

patterns() {
  seed=$1
  with cuda:0,host -n 2 -p -m 70000 -s "$seed"                   # interleaved with hosts
  with cuda:0,hip:0,musa:0,maca:0 -n 4 -c 100 -m 70000 -s "$seed" # four vendors
  MEDLEY_TRANSPORT=tcp with cuda:0,hip:0,host -n 3 -c 60 -m 70000 -s "$seed"
  MDL_TEST_HOSTS=a,a,b,b with cuda:0,hip:0,hip:0,cuda:0 -n 4 -c 60 -m 20000 -s "$seed"            # two vendors in a host
  MDL_TEST_HOSTS=a,b,b,b,c with cuda:0,hip:0,host,hip:0,tops:0 -n 5 -c 50 -m 20000 -s "$seed"     # uneven, singletons
  with cuda:0,cuda:0,cuda:0,hip:0,host,hip:0,tx:0,tang:0 -n 8 -c 40 -m 5000 -s "$seed"            # several to a device
  with cuda:0,hip:0,host,cuda:0 -n 4 -t -c 60 -m 20000 -s "$seed"                                 # of one process
}

# Each vendor beside a host and another one.
for vendor in $vendors; do
  with "$vendor:0,host,cuda:0" -n 3 -c 40 -m 70000 -s 51
done
patterns 52
[ -z "${MDL_CHECK_SHORT-}" ] || exit 0

# Small rings and windows, many blocks; slow streams; one hardware queue; no words, no events, nothing to ask.
MEDLEY_WINDOW=4096 MEDLEY_DEVICE_STAGING=1M with cuda:0,host,hip:0 -n 3 -c 60 -m 30000 -s 53
with cuda:0,hip:0 -n 2 -c 30 -m 1100000 -s 54
EMUL_DELAY_US=300 EMUL_SEED=5 with cuda:0,host,hip:0 -n 3 -c 40 -m 20000 -s 55
EMUL_QUEUES=1 EMUL_REQUIRE_ENTER=1 with cuda:0,host,hip:0 -n 3 -c 40 -m 20000 -s 56
for missing in cuStreamWaitValue64_v2 cuStreamWaitValue64_v2,missing=cudaEventQuery cudaPointerGetAttributes; do
  EMUL_FAULT=missing=$missing with cuda:0,host,hip:0 -n 3 -c 40 -m 70000 -s 57
done
MEDLEY_DETERMINISTIC=1 with cuda:0,host,hip:0 -n 3 -c 40 -m 20000 -s 58

# The same bits on every rank; and in deterministic mode for every placement.
bits() {
  use_devices "$1"
  tests/hosts/bits -n 4 -c 60 -d 60
}
bits cuda:0,hip:0,host,musa:0
export MEDLEY_DETERMINISTIC=1
one=$(bits host)
for devices in cuda:0 host,cuda:0,hip:0,host tops:0,tx:0,host,cuda:0; do
  [ "$(bits $devices)" = "$one" ] || {
    echo "FAIL: with MEDLEY_DETERMINISTIC=1 the bits of $devices differ from those of hosts"
    exit 1
  }
done
unset MEDLEY_DETERMINISTIC
# Ranks of one process on one device have a stream each, and none takes memory while another is in a call.
use_devices cuda:0,hip:0
for way in "-t 3" "-g 4" "--local 2 -t 2"; do
  # shellcheck disable=SC2086
  timeout "${MDL_TEST_SECONDS:-60}" ./medley-perf all_reduce $way --device cuda:0,hip:0,cuda:0 -b 8 -e 64K -f 64 -n 3 -w 1 >/dev/null
  echo "medley-perf $way: ok"
done

wide || exit 0
for seed in 61 62 63 64 65; do
  patterns $seed
  for vendor in $vendors; do
    with "$vendor:0,host" -n 3 -p -m 300000 -s $seed
    with "$vendor:0,$vendor:0,cuda:0" -n 4 -c 100 -m 300000 -s $seed
  done
done
