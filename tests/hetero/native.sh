#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Calls that pass through to the vendors' own collective libraries (lib/engine/native.h), on emulated ones: every vendor's,
# with what it lacks; and that nothing passes through where it must not.
. "${srcdir:-.}/tests/lib.sh"
emul=$build/tests/emul
export MEDLEY_NATIVE=1 MEDLEY_DEVICE_DIRECT=0 EMUL_DEVICES=4 MEDLEY_DEVICE_STAGING=8M MDL_TEST_AVG_ULPS=1 # vendors round averages in their own way

# vendor, folder, program...
on() {
  vendor=$1 folder=$2
  shift 2
  case $folder in /*) ;; *) folder=$emul/$folder ;; esac
  export MEDLEY_DEVICE_PATH="$vendor=$folder" MDL_TEST_DEVICES="${devices:-$vendor:0,$vendor:1,$vendor:2}"
  quietly "$@" || fail "$vendor of $folder, devices $MDL_TEST_DEVICES: $*"
}
coll() { on "$1" "$2" tests/coll/test_coll -n 3 -d 60 -m 20000 $3; }

for pair in cuda:cuda12 hip:hip6 dtk:dtk musa:musa maca:maca tops:tops supa:supa tx:tx tang:tang acl:acl cnrt:cnrt \
  iluvatar:iluvatar ppu:ppu; do
  coll "${pair%%:*}" "${pair#*:}" "-c 60 -s 71"
done

# How many of each reduction's 12 types times 6 operations pass through (all-reduce, reduce, reduce-scatter and its V),
# and how many types of what only moves; of messages 12 if not told otherwise.
used() {
  export MDL_TEST_NATIVE="$3"
  on "$1" "$2" tests/hetero/test_native used
  grep -q "^passed: $4 12 12 12 12 12 12 ${5-12}$" "$work/quietly.log" ||
    fail "$1 of $2: $(grep ^passed: "$work/quietly.log") is not $4 and all that moves"
}
scene() {
  vendor_=$1 folder_=$2
  shift 2
  on "$vendor_" "$folder_" tests/hetero/test_native "$@"
}
mkdir "$work/maca_mx" "$work/bare"
for file in libmdlemul.so maca/libmcruntime.so cuda12/libcudart.so.12 cuda12/libcuda.so.1; do
  ln -s "$emul/$file" "$work/"
done
ln -s "$work/libmcruntime.so" "$emul/maca_mx/libmccl.so" "$work/maca_mx/"
ln -s "$work/libcudart.so.12" "$work/libcuda.so.1" "$work/bare/"

used cuda cuda12 nccl "60 60 60 60"
used tops tops eccl "35 35 35 35"
used acl acl hccl "23 23 23 23" 0
used cnrt cnrt cncl "36 36 36 36"
export MDL_TEST_NATIVE=nccl
on cuda cuda12 tests/hetero/test_stream
scene cuda cuda12 values host_buffers group same_peer uneven made_at_once default_stream turns factors one_thread killed asynchronous late late_message held aborted left_open left_open_staged mismatch lost_in_init
EMUL_FAULT=missing=ncclRedOpDestroy scene cuda cuda12 factors # an older release
scene cuda cuda12 one_is_off deterministic versions no_init
devices=cuda:0,cuda:1,cuda:1 scene cuda cuda12 unused # two ranks on one device
scene cuda "$work/bare" unused               # without the library
MEDLEY_NATIVE=0 scene cuda cuda12 unused
[ -z "${MDL_CHECK_SHORT-}" ] || finish

used cuda cuda13 nccl "60 60 60 60"
used hip hip6 rccl "60 60 60 60"
used dtk dtk rccl "60 60 60 60"
used musa musa mccl "40 40 40 40"
used maca maca mccl "50 50 50 50"
used maca "$work/maca_mx" mccl "50 50 50 50"
used supa supa succl "40 40 40 40"
used tx tx tccl "40 40 40 40"
used tang tang pccl "40 40 40 40"
used iluvatar iluvatar ixccl "60 60 60 60"
used ppu ppu "ppu nccl" "60 60 60 60"
for pair in hip:hip6:rccl tops:tops:eccl tang:tang:pccl cnrt:cnrt:cncl acl:acl:hccl; do
  rest=${pair#*:}
  export MDL_TEST_NATIVE="${rest#*:}"
  scene "${pair%%:*}" "${rest%:*}" values host_buffers group same_peer uneven made_at_once default_stream turns factors held no_init lost_in_init
  [ "${pair%%:*}" = cnrt ] || scene "${pair%%:*}" "${rest%:*}" one_thread # CNCL takes one rank of a process
  # HCCL has no abort: its streams go on after its own deadline, the seconds of which are short here
  EMUL_CCL_SECOND=5 scene "${pair%%:*}" "${rest%:*}" killed asynchronous aborted
  EMUL_CCL_SECOND=50 scene "${pair%%:*}" "${rest%:*}" late # 68 of them at least: longer than any of ours
done
for pair in cuda:cuda12 tops:tops acl:acl cnrt:cnrt; do
  coll "${pair%%:*}" "${pair#*:}" "-p -s 72"
  coll "${pair%%:*}" "${pair#*:}" "-t -c 60 -s 73"
done
MEDLEY_TRANSPORT=tcp coll cuda cuda12 "-c 40 -s 74"
MDL_TEST_HOSTS=a,b,b coll hip hip6 "-c 40 -s 75"
EMUL_DELAY_US=300 coll cuda cuda12 "-c 40 -s 76"
EMUL_REQUIRE_ENTER=1 EMUL_QUEUES=1 coll cuda cuda12 "-c 40 -s 77"
EMUL_REQUIRE_ENTER=1 coll acl acl "-c 40 -s 78"
EMUL_DELAY_US=1000 scene acl acl same_peer default_stream
MDL_TEST_NATIVE=cncl scene cnrt cnrt versions
finish
