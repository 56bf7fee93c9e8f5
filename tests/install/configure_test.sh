#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Without every optional dependency Medley configures, says so, and builds. What was asked for by name and is not there
# stops configure.
. "${srcdir:-.}/tests/lib.sh"
copy_sources "$work/src" >"$work/log" 2>&1 || { cat "$work/log"; fail "make distdir"; finish; }
mkdir "$work/build" && cd "$work/build" || exit 99

optional=$(sed -n 's/^MDL_OPTIONAL(\[\([a-z]*\)\].*/\1/p' "$top/configure.ac")
without=
for name in $optional; do without="$without --without-$name"; done
# shellcheck disable=SC2086
quietly ../src/configure -q $without --disable-static CFLAGS="-O0 -Werror" || finish
for line in 'hwloc +no' 'libibverbs +no' 'PMIx +no' 'MPI +no' 'Check +no'; do
  grep -qE "^ +$line" "$work/quietly.log" || fail "configure does not say: $line"
done
grep -E '^#define HAVE_(HWLOC|IBVERBS|PMIX|MPI|CHECK) ' config.h && fail "config.h has what was left out"
quietly make -j"$jobs"
ldd .libs/libmedley.so 2>/dev/null | grep -E 'hwloc|ibverbs|pmix|mpi' && fail "the library needs what was left out"

mkdir "$work/insist" && cd "$work/insist" || exit 99
PKG_CONFIG_LIBDIR=$work/none SODIUM_CFLAGS=' ' SODIUM_LIBS=-lsodium ../src/configure -q --with-hwloc >"$work/log" 2>&1 &&
  fail "--with-hwloc succeeded without hwloc"
grep -q 'hwloc was asked for' "$work/log" || { tail -n 3 "$work/log"; fail "--with-hwloc does not say what is missing"; }
PKG_CONFIG_LIBDIR=$work/none ../src/configure -q >"$work/log" 2>&1 && fail "configure succeeded without libsodium"
grep -q 'libsodium-dev.*libsodium-devel' "$work/log" || fail "configure does not name libsodium's packages"
finish
