#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The smallest adapter there can be, from a plugin: random collectives of ranks on its devices and on the host. It has no
# events and no words, so that the calling thread carries every block.
. "${srcdir:-.}/tests/lib.sh"
export MEDLEY_DEVICE_PLUGIN="$build/tests/unit/.libs/dev_plugin.so"
[ -e "$MEDLEY_DEVICE_PLUGIN" ] || skip "$MEDLEY_DEVICE_PLUGIN has not been built"
for devices in dev_plugin:0,host dev_plugin:1,dev_plugin:0; do
  MDL_TEST_DEVICES=$devices quietly "$build/tests/coll/test_coll" -n 3 -c 80 -m 20000
done
finish
