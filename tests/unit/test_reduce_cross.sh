#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The reduction cases on processors that this machine is not: AArch64, and an x86-64 without AVX2. Needs qemu-user and,
# for AArch64, a cross compiler.
set -u
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
: >"$work/config.h"
ran=0

# cross NAME COMPILER EMULATOR...: builds the bare program, runs it, leaves its output in $work/out.
cross() {
  name=$1 compiler=$2 emulator=$3
  for tool in "$compiler" "$emulator"; do
    command -v "$tool" >/dev/null 2>&1 || { echo "$name: skipped: no $tool"; return 1; }
  done
  shift 2
  if ! echo 'int main(void){return 0;}' | $compiler -static -x c - -o "$work/probe" 2>/dev/null; then
    echo "$name: skipped: $compiler cannot link statically"
    return 1
  fi
  $compiler -std=c11 -O2 -D_GNU_SOURCE -ffp-contract=off -static -I"$work" -I"$srcdir" -I"$srcdir/include" \
    "$srcdir"/lib/reduce/*.c "$srcdir"/lib/base/copy.c "$srcdir"/tests/unit/reduce_*.c -lm -o "$work/bare" || exit 1
  "$@" "$work/bare" >"$work/out" || { cat "$work/out"; echo "$name: FAILED"; exit 1; }
  ran=$((ran + 1))
  echo "$name: $(tr '\n' ' ' <"$work/out")"
}

# expect BEST: which kernels the emulated processor must have chosen.
expect() {
  grep -qx "best: $1" "$work/out" || { echo "the best kernels are not $1"; exit 1; }
}

cross aarch64 aarch64-linux-gnu-gcc qemu-aarch64-static && expect neon
if [ "$(uname -m)" = x86_64 ]; then
  cross "x86-64 without AVX2" "${CC:-cc}" qemu-x86_64-static -cpu Nehalem && expect scalar
fi
[ $ran -gt 0 ] || exit 77
