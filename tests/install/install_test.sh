#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs with DESTDIR, moves the tree elsewhere, and builds programs against it: shared, static, C, C++, pkg-config,
# CMake. Then uninstalls.
. "${srcdir:-.}/tests/lib.sh"
[ -e "$build/.libs/libmedley.so" ] || skip "the shared library was not built"
grep -q 'fsanitize' "$build/GNUmakefile" && skip "a sanitizer build is not installed"
prefix=$(sed -n 's/^prefix = //p' "$build/GNUmakefile")
[ "$prefix" != / ] || skip "the prefix is /: it cannot be moved"

quietly make -C "$build" install DESTDIR="$work/stage" || finish
mv "$work/stage$prefix" "$work/moved"
rm -rf "$work/stage"
root=$work/moved
libdir=$(dirname "$(find "$root" -name libmedley.so)")
[ -z "$(find "$root" -name '*.la')" ] || fail "a .la file was installed: its paths are absolute"
grep -rn "$prefix/" "$libdir/pkgconfig" "$libdir/cmake" && fail "an installed file names the prefix $prefix"
soname=$(readelf -d "$libdir/libmedley.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ -e "$libdir/$soname" ] || fail "the SONAME $soname is not installed"

cp "$top/tests/install/client.c" "$work/client.c"
cd "$work" || exit 99
export PKG_CONFIG_PATH=$libdir/pkgconfig
flags=$(pkg-config --cflags --libs medley) || fail "pkg-config does not find medley"
static_flags="$(pkg-config --cflags medley) $libdir/libmedley.a $(pkg-config --static --libs medley | sed 's/-lmedley\b//')"
version=$(pkg-config --modversion medley)
grep -rn '@[A-Z_]*@' "$libdir/pkgconfig" "$libdir/cmake" && fail "an installed file has a place that was not filled in"

# try NAME COMPILER FLAG...: compiles and runs the client
try() {
  name=$1
  shift
  quietly "$@" -o "client_$name" && LD_LIBRARY_PATH=$libdir quietly "./client_$name" && echo "ok: $name"
}
# shellcheck disable=SC2086
for compilers in "gcc g++" "clang clang++"; do
  cc=${compilers% *} cxx=${compilers#* }
  command -v "$cc" >/dev/null 2>&1 || { echo "not tried: $cc is not installed"; continue; }
  try "c99_shared_$cc" "$cc" -std=c99 -pedantic -Wall -Wextra -Werror client.c $flags
  try "c99_static_$cc" "$cc" -std=c99 -pedantic -Wall -Wextra -Werror client.c $static_flags
  command -v "$cxx" >/dev/null 2>&1 || { echo "not tried: $cxx is not installed"; continue; }
  try "cxx_shared_$cxx" "$cxx" -std=c++11 -pedantic -Wall -Wextra -Werror -x c++ client.c -x none $flags
  try "cxx_static_$cxx" "$cxx" -std=c++11 -pedantic -Wall -Wextra -Werror -x c++ client.c -x none $static_flags
done
if ls client_c99_static_* >/dev/null 2>&1; then
  for program in client_c99_static_*; do
    readelf -d "$program" | grep -q 'NEEDED.*medley' && fail "$program needs the shared library"
  done
fi

cmake_project() { cmake -S "$work" -B "$work/$1" -DCMAKE_PREFIX_PATH="$root" -DWANTED_VERSION="$2"; }
if command -v cmake >/dev/null 2>&1; then
  cp "$top/tests/install/CMakeLists.txt" "$work/"
  quietly cmake_project cmake "$version" && quietly cmake --build cmake && quietly cmake/client_static &&
    LD_LIBRARY_PATH=$libdir quietly cmake/client_shared && echo "ok: cmake"
  cmake_project newer 99.0 >"$work/log" 2>&1 && fail "CMake took $version for 99.0"
else
  echo "not tried: cmake is not installed"
fi

quietly make -C "$build" install DESTDIR="$work/stage"
quietly make -C "$build" uninstall DESTDIR="$work/stage"
find "$work/stage" ! -type d | grep . && fail "uninstall left files"
finish
