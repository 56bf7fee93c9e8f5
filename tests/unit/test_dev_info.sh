#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# medley-info has a row for every vendor of the list, with what was found or why not; a plugin's devices are in it.
. "${srcdir:-.}/tests/lib.sh"
info() { "$build/medley-info" >"$work/out" 2>"$work/err" || fail "medley-info failed: $(cat "$work/err")"; }

# The two lines of vendor $1.
row() { sed -n "/^  $1  /{N;p;}" "$work/out"; }

unset MEDLEY_DEVICE MEDLEY_DEVICE_PATH MEDLEY_DEVICE_PLUGIN
info
for vendor in $(sed -n 's,^device_sources += devices/\([a-z_0-9]*\)\.c.*,\1,p' "$top/devices/devices.am"); do
  row "$vendor" | grep -qE "^    (found|not here) +[^ ]" || fail "no row for $vendor that says whether it is here"
  row "$vendor" | grep -qE "proved on|never run on real hardware" || fail "the row for $vendor does not say if it was proved"
done

export MEDLEY_DEVICE_PLUGIN="$build/tests/unit/.libs/dev_plugin.so"
[ -e "$MEDLEY_DEVICE_PLUGIN" ] || skip "$MEDLEY_DEVICE_PLUGIN has not been built"
info
row dev_plugin | grep -q "found  *folder none" || fail "the plugin was not found"
grep -q "^    dev_plugin:1 *dev_plugin number 1, PCI unknown" "$work/out" || fail "the plugin's second device is missing"
grep -q "^    can  *host access$" "$work/out" || fail "the plugin's capabilities are missing"
MEDLEY_DEVICE_PATH=dev_plugin=/nowhere info
row dev_plugin | grep -q "not here  *dev_plugin is not in /nowhere" || fail "the plugin's reason is missing"
if MEDLEY_DEVICE_PATH=cudda=/nowhere "$build/medley-info" >"$work/out" 2>/dev/null; then
  fail "a misspelt vendor, and medley-info is content"
fi
grep -q 'none can be looked at: MEDLEY_DEVICE_PATH: "cudda=/nowhere"' "$work/out" || fail "a misspelt vendor is not named"

# A plugin that is no good has a row with the reason, and the others have theirs.
cp "$MEDLEY_DEVICE_PLUGIN" "$work/without_copy.so"
MEDLEY_DEVICE_PLUGIN="$work/without_copy.so,$MEDLEY_DEVICE_PLUGIN,/no/such.so" info
row without_copy | grep -q "not usable .*without_copy.so: it has no function \"copy\", which is required" || fail "a plugin without copy has no reason"
grep -A 1 "^  /no/such.so  " "$work/out" | grep -q "not usable .*/no/such.so: " || fail "a plugin that is not there has no reason"
row dev_plugin | grep -q "found  *folder none" || fail "a good plugin is not found beside bad ones"

# Libraries that are known and not supported, on emulated runtimes: the row gives the reason that the documentation gives.
emul=$build/tests/emul
if [ -e "$emul/kunlun/libcudart.so" ]; then
  unset MEDLEY_DEVICE_PLUGIN
  for vendor in kunlun ze sdaa; do
    MEDLEY_DEVICE_PATH="$vendor=$emul/$vendor" info
    said=$(sed -n "/^  $vendor  /,/^  [a-z]/s/^    collectives *//p" "$work/out")
    case $said in "not supported, because "*) ;; *) fail "$vendor does not say why its collective library is not supported: $said" ;; esac
    grep -qF -e "| $said |" "$top/docs/adding-a-device.md" || fail "docs/adding-a-device.md does not have: $said"
  done
  MEDLEY_DEVICE_PATH="acl=$emul/acl" info
  grep -q "^    collectives *hccl, libhccl.so" "$work/out" || fail "acl's collective library is not named"
fi
finish
