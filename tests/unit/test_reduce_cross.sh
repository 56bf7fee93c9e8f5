#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The reduction cases on processors that this machine is not: AArch64, and an x86-64 without AVX2. Needs qemu-user and,
# for AArch64, a cross compiler. Emulation is slow: all builds and runs go beside each other, and of the longest random
# cases the scalar kernels, which test_reduce has tried here, get an eighth, NEON's a half.
set -u
srcdir=${srcdir:-.}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
: >"$work/config.h"
ran=0

# can NAME COMPILER EMULATOR: are they here, and does the compiler make static programs?
can() {
  for tool in "$2" "$3"; do
    command -v "$tool" >/dev/null 2>&1 || { echo "$1: skipped: no $tool"; return 1; }
  done
  echo 'int main(void){return 0;}' | $2 -static -x c - -o "$work/probe" 2>/dev/null && return 0
  echo "$1: skipped: $2 cannot link statically"
  return 1
}

# build NAME COMPILER: the bare program
build() {
  $2 -std=c11 -O2 -D_GNU_SOURCE -ffp-contract=off -static -I"$work" -I"$srcdir" -I"$srcdir/include" \
    "$srcdir"/lib/reduce/*.c "$srcdir"/lib/base/copy.c "$srcdir"/tests/unit/reduce_*.c -lm -o "$work/$1"
}

# start NAME SET PART EMULATOR...: one set of kernels; its output in $work/NAME.SET
start() {
  out=$work/$1.$2 program=$work/$1 set=$2 part=$3
  shift 3
  { "$@" "$program" "$set" "$part" >"$out" 2>&1 || echo "FAILED: $?" >>"$out"; } &
}

# judge NAME SET BEST: was the set run, is all right, and which set does the processor choose?
judge() {
  ran=$((ran + 1))
  echo "$1, $2: $(tr '\n' ' ' <"$work/$1.$2")"
  grep -q 'FAILED' "$work/$1.$2" && exit 1
  grep -qx "$2" "$work/$1.$2" || { echo "the $2 kernels were not run"; exit 1; }
  grep -qx "best: $3" "$work/$1.$2" || { echo "the best kernels are not $3"; exit 1; }
}

arm= old=
can aarch64 aarch64-linux-gnu-gcc qemu-aarch64-static && arm=1
[ "$(uname -m)" = x86_64 ] && can x86-64 "${CC:-cc}" qemu-x86_64-static && old=1
[ -z "$arm" ] || build aarch64 aarch64-linux-gnu-gcc & first=$!
[ -z "$old" ] || build x86-64 "${CC:-cc}" & second=$!
wait $first || exit 1
if [ -n "$arm" ]; then
  start aarch64 neon 2 qemu-aarch64-static
  start aarch64 scalar 8 qemu-aarch64-static
fi
wait $second || exit 1
[ -z "$old" ] || start x86-64 scalar 8 qemu-x86_64-static -cpu Nehalem
wait
[ -z "$arm" ] || judge aarch64 neon neon
[ -z "$arm" ] || judge aarch64 scalar neon
[ -z "$old" ] || judge x86-64 scalar scalar
[ $ran -gt 0 ] || exit 77
