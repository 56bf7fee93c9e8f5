#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every operation of every adapter, on the emulated runtimes and on a plugin; on some runtimes again as an older release,
# without the newer calls. The folder of a runtime is called as its vendor, with a version or a variant behind it.
. "${srcdir:-.}/tests/lib.sh"
export EMUL_REQUIRE_ENTER=1 EMUL_DELAY_US=100 EMUL_DEVICES=2 EMUL_LEAKS=2
ran=

# Folder $1, with the faults $2.
run() {
  vendor=$(echo "${1%%_*}" | sed 's/[0-9]*$//')
  grep -q "devices/$vendor\.c" "$top/devices/devices.am" || return 0
  # some folders have a collective library only
  ls "$build/tests/emul/$1" 2>/dev/null | grep '^lib.*\.so' | grep -qv 'ccl\.so' || return 0
  # with faults, what the adapter can is another question
  caps=$(sed -n "s/^$1 //p" "$top/tests/emul/caps.list")
  [ -n "$caps" ] || fail "tests/emul/caps.list does not say what $1 has"
  [ -z "$2" ] || caps=
  MDL_TEST_CAPS=$caps MEDLEY_DEVICE_PATH=$vendor=$build/tests/emul/$1 EMUL_FAULT=$2 quietly "$build/tests/unit/test_dev_ops" "$vendor:0" &&
    ran="$ran $1${2:+($2)}" && return 0
  echo "that was $1 with the faults '$2'"
}

for folder in "$build"/tests/emul/*/; do
  folder=${folder%/}
  run "${folder##*/}" ""
done
[ "$failures" != 0 ] || [ -n "$ran" ] || skip "no emulated runtime has been built"

run cuda12 missing=cudaHostAlloc,missing=cudaEventCreateWithFlags,missing=cudaStreamCreateWithFlags
run cuda13 noipc
run hip6 missing=hipLaunchHostFunc
run acl missing=aclrtLaunchHostFunc
run acl missing=aclrtQueryEventStatus,missing=aclrtMemGetAddressRange,missing=aclrtPointerGetAttributes
run cnrt busy,acquireonce,missing=cnrtMemcpyAsync_V3
run tops missing=topsLaunchHostFunc
if [ -e "$build/tests/unit/.libs/dev_plugin.so" ]; then
  MEDLEY_DEVICE_PLUGIN=$build/tests/unit/.libs/dev_plugin.so quietly "$build/tests/unit/test_dev_ops" dev_plugin:0
fi
echo "right:$ran"
finish
