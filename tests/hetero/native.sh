#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Calls that pass through to the vendors' own collective libraries (lib/engine/native.h), on emulated ones: every vendor's,
# with what it lacks; and that nothing passes through where it must not.
. "${srcdir:-.}/tests/lib.sh"
emul=$build/tests/emul
export EMUL_DEVICES=4 MEDLEY_DEVICE_STAGING=8M MDL_TEST_AVG_ULPS=1 # vendors round averages in their own way

# vendor, folder, program...
on() {
  vendor=$1 folder=$2
  shift 2
  export MEDLEY_DEVICE_PATH="$vendor=$emul/$folder" MDL_TEST_DEVICES="${devices:-$vendor:0,$vendor:1,$vendor:2}"
  quietly "$@" || fail "$vendor of $folder, devices $MDL_TEST_DEVICES: $*"
}
coll() { on "$1" "$2" tests/coll/test_coll -n 3 -d 60 -m 20000 $3; }

for pair in cuda:cuda12 hip:hip6 dtk:dtk musa:musa maca:maca tops:tops supa:supa tx:tx tang:tang acl:acl cnrt:cnrt \
  iluvatar:iluvatar ppu:ppu; do
  coll "${pair%%:*}" "${pair#*:}" "-c 60 -s 71"
done
on cuda cuda12 tests/hetero/test_stream
[ -z "${MDL_CHECK_SHORT-}" ] || finish

for pair in cuda:cuda12 tops:tops acl:acl cnrt:cnrt; do
  coll "${pair%%:*}" "${pair#*:}" "-p -s 72"
  coll "${pair%%:*}" "${pair#*:}" "-t -c 60 -s 73"
done
MEDLEY_TRANSPORT=tcp coll cuda cuda12 "-c 40 -s 74"
MDL_TEST_HOSTS=a,b,b coll hip hip6 "-c 40 -s 75"
EMUL_DELAY_US=300 coll cuda cuda12 "-c 40 -s 76"
EMUL_REQUIRE_ENTER=1 EMUL_QUEUES=1 coll cuda cuda12 "-c 40 -s 77"
EMUL_REQUIRE_ENTER=1 coll acl acl "-c 40 -s 78"
finish
