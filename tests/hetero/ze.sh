#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Level Zero: the contract, what streams promise and the randomised collectives on the emulated runtime, a recent release
# and one that lacks calls; and the real loader, if it is here, on a machine without such a device.
. "${srcdir:-.}/tests/lib.sh"

for release in ze ze_old; do
  folder=$build/tests/emul/$release
  export EMUL_DEVICES=2 MEDLEY_DEVICE_PATH="ze=$folder" MDL_TEST_DEVICES=ze:0,host,ze:1
  quietly tests/hetero/test_device ze:1 || continue
  MDL_TEST_DEVICES=ze:0,ze:1 quietly tests/hetero/test_stream
  quietly tests/coll/test_coll -n 3 -c 40 -s 51 -d 60
  MEDLEY_TRANSPORT=tcp quietly tests/coll/test_coll -n 4 -c 40 -s 52 -d 60
  EMUL_FAULT=missing=zeMemGetIpcHandle quietly tests/hetero/test_device ze
  for call in zeMemAllocDevice zeEventHostSignal zeCommandListAppendWaitOnEvents; do
    EMUL_FAULT=missing=$call tests/hetero/test_device ze 2>&1 | grep -q "libze_loader.so.1 has no $call" ||
      fail "$release: it is not told that $call is missing"
  done
  EMUL_DEVICES=0 tests/hetero/test_device ze 2>&1 | grep -q "libze_loader.so.1 found" || fail "$release: no reason without devices"
done

# The real one. A machine with such a device finds it: then there is nothing to say here.
real=$(ldconfig -p 2>/dev/null | sed -n 's/.*libze_loader\.so\.1 .*=> //p' | head -n 1)
if [ -n "$real" ] && ! ls /dev/dri/renderD* >/dev/null 2>&1; then
  text=$(MEDLEY_DEVICE_PATH="ze=$(dirname "$real")" tests/hetero/test_device ze 2>&1) || true
  case $text in
  *"found no device: zeInit gave 0x78000001"*) ;;
  *) fail "the real loader, without a device: $text" ;;
  esac
  text=$(MEDLEY_DEVICE_PATH='' tests/hetero/test_device ze 2>&1) || true
  case $text in
  *"no /dev/dri/renderD* of PCI vendor 8086"*) ;;
  *) fail "without the device's node: $text" ;;
  esac
else
  echo "the real libze_loader.so.1 was not tried: it is not installed (Debian: libze1), or there is a device"
fi
finish
