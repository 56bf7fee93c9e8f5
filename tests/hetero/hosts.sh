#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Several vendors' devices on two hosts (network namespaces): random collectives, and a link that is cut.
. "${srcdir:-.}/tests/hosts/lib.sh"
emul=$build/tests/emul
export MEDLEY_DEVICE_PATH="cuda=$emul/cuda12,hip=$emul/hip6" MEDLEY_DEVICE_STAGING=8M
[ -e "$emul/cuda12/libcudart.so.12" ] || skip "the emulated runtimes have not been built"
host a b
network 0 rail0 4 a b
export MDL_TEST_NETNS=a,a,b,b
MDL_TEST_DEVICES=cuda:0,hip:0,host,cuda:0 quietly "$build/tests/coll/test_coll" -n 4 -c 60 -m 20000 -s 81 -l -d 60
MDL_TEST_CUT="b rail0" "$build/tests/hetero/test_faults" || fail "a cut link"
finish
