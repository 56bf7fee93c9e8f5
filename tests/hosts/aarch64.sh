#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# AArch64 ranks, under qemu-user, beside x86-64 ranks in one communicator over TCP: randomised collectives of all types,
# and the bits of all-reduces. The cross build is kept in build-aarch64, so that a second run compiles only what changed.
. "${srcdir:-.}/tests/lib.sh"
[ "$(uname -m)" = x86_64 ] || skip "this machine is no x86-64"
grep -q -e '-fsanitize=' "$build/GNUmakefile" 2>/dev/null && skip "in a sanitizer build it would find nothing more"
need aarch64-linux-gnu-gcc
need qemu-aarch64-static
need make
pc=/usr/lib/aarch64-linux-gnu/pkgconfig
[ -e $pc/libsodium.pc ] || skip "libsodium-dev:arm64 is not installed"

cross=$build/build-aarch64
mkdir -p "$cross/obj"
(cd "$build" && make -s distdir distdir=build-aarch64/src am__skip_length_check=:) >"$work/log" 2>&1 || {
  tail -n 20 "$work/log"
  fail "the sources cannot be copied"
  finish
}
cd "$cross/obj" || exit 99
if [ ! -e config.status ]; then
  quietly env PKG_CONFIG_LIBDIR=$pc PKG_CONFIG_PATH= ../src/configure -q --host=aarch64-linux-gnu --disable-shared \
    --without-hwloc --without-ibverbs --without-pmix --without-mpi --without-check CFLAGS="-O1 -g" || finish
fi
quietly make -s -j"$jobs" tests/coll/test_coll tests/hosts/bits || finish
echo 'int main(void) { return 0; }' >"$work/try.c"
aarch64-linux-gnu-gcc "$work/try.c" -o "$work/try" && qemu-aarch64-static "$work/try" 2>"$work/why" ||
  skip "AArch64 programs do not run here: $(cat "$work/why")"
cd "$build" || exit 99

# mixed ARCHS PROGRAM ARG...: a rank per word of ARCHS (a: AArch64, x: x86-64), each a program of its own; they share a
# file. Leaves what rank 0 printed in $work/out.0.
mixed() {
  archs=$1 program=$2 rank=0 pids=
  shift 2
  echo "== $archs $program $*"
  : >"$work/world"
  for arch in $archs; do
    run=$build/$program
    [ "$arch" = x ] || run="qemu-aarch64-static $cross/obj/$program"
    # shellcheck disable=SC2086
    MDL_TEST_RANK=$rank MDL_TEST_SIZE=$(echo $archs | wc -w) MDL_TEST_WORLD=$work/world timeout -k 5 80 $run "$@" \
      >"$work/out.$rank" 2>&1 &
    pids="$pids $!"
    rank=$((rank + 1))
  done
  bad=0
  for pid in $pids; do wait "$pid" || bad=1; done
  [ $bad = 0 ] && { cat "$work/out.0"; return; }
  tail -n 10 "$work"/out.*
  rm -f "$work"/out.*
  fail "$archs: $program $*"
}

export MEDLEY_TRANSPORT=tcp MEDLEY_DEBUG=NONE
mixed "x a" tests/coll/test_coll -c 336 -m 3000
mixed "a x a" tests/coll/test_coll -c 150 -m 3000 -s 2
mixed "x a a x" tests/coll/test_coll -c 100 -m 20000 -s 3
mixed "a x" tests/hosts/bits -c 600 -a aarch64,x86_64
mixed "x a x" tests/hosts/bits -c 300 -s 2 -a x86_64,aarch64,x86_64
# The same bits by any algorithm, and on one kind of processor.
export MEDLEY_DETERMINISTIC=1
for archs in "x x x" "a x a"; do
  for algo in "" ring recdbl; do
    MEDLEY_ALGO=$algo mixed "$archs" tests/hosts/bits -c 200 -s 3
    grep hash "$work/out.0" >>"$work/hashes"
  done
done
[ "$(sort -u "$work/hashes" | wc -l)" = 1 ] || fail "MEDLEY_DETERMINISTIC=1: different bits"
finish
