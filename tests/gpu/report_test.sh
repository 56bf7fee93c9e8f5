#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tests/gpu/run on an emulated runtime: a report that says what passed, and as JSON; one with a failure, and its log; and
# the reason where there is no device.
. "${srcdir:-.}/tests/lib.sh"
emul=$build/tests/emul
[ -e "$emul/cuda12/libcudart.so.12" ] || skip "the emulated runtimes have not been built"
unset EMUL_FAULT EMUL_DEVICES MEDLEY_DEVICE_PLUGIN
mkdir -p "$emul/compiled"
export EMUL_CACHE=$emul/compiled MEDLEY_DEVICE_PATH=cuda=$emul/cuda12 MEDLEY_DEBUG=NONE MEDLEY_DEVICE_STAGING=8M
cd "$build" || exit 99

"$top/tests/gpu/run" -q -o "$work/report" cuda:0 >"$work/log" 2>&1 || { tail -n 40 "$work/report"; fail "a report of right devices"; }
for line in 'devices: cuda:0' 'passed: the contract' 'passed: collectives, three ranks' 'passed: the card beside a host' \
  'to_device .* GB/s' 'staged_cuda:0: .* of a pinned copy' ' 0 failed,'; do
  grep -q "$line" "$work/report" || fail "the report has no line '$line'"
done
grep -q 'cuda:0.*PCI' "$work/report" || fail "the report does not describe the device"
sed '1,/^---- the same as JSON/d' "$work/report" >"$work/json"
if command -v python3 >/dev/null 2>&1; then
  python3 -c 'import json, sys; r = json.load(open(sys.argv[1])); assert r["failed"] == 0 and r["passed"] > 8 and r["tests"][0]["device"] == "cuda:0" and r["date"]' \
    "$work/json" || fail "the JSON part cannot be read"
fi

EMUL_FAULT=oom "$top/tests/gpu/run" -q -l 4 -o "$work/report" cuda:0 >"$work/log" 2>&1 && fail "a device that fails was found right"
grep -q 'failed (.*: the contract' "$work/report" && grep -q '^    | ' "$work/report" || fail "the report has no log of the failure"

EMUL_DEVICES=0 POCL_DEVICES=pthread "$top/tests/gpu/run" -q -o "$work/none" >"$work/log" 2>&1
[ $? = 77 ] && grep -q '^SKIP: no vendor' "$work/log" || { cat "$work/log"; fail "without a device it does not say so"; }
finish
