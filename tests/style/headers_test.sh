#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# medley.h compiles alone as C99, C11 and C++11, with every compiler there is; so does each header of ours as C11.
. "${srcdir:-.}/tests/lib.sh"

# compile NAME COMPILER FLAG...: the header NAME alone
compile() {
  header=$1
  shift
  printf '#include <%s>\n' "$header" >"$work/alone.c"
  "$@" -fsyntax-only -Wall -Wextra -Werror -I"$top/include" -I"$top" -I"$build" "$work/alone.c" >"$work/log" 2>&1 && return
  head -n 20 "$work/log"
  fail "$header: $*"
}

found=0
for cc in gcc clang; do
  command -v $cc >/dev/null 2>&1 || { echo "not tried: $cc is not installed"; continue; }
  found=1
  compile medley.h $cc -x c -std=c99 -pedantic
  compile medley.h $cc -x c -std=c11 -pedantic
  compile medley/plugin.h $cc -x c -std=c99 -pedantic
  # Templates, which say that another file includes them, are no headers.
  for header in $(cd "$top" && find lib transports devices bench -name '*.h' -exec grep -L '#error .*is included by' {} +); do
    compile "$header" $cc -x c -std=c11 -include config.h
  done
done
for cxx in g++ clang++; do
  command -v $cxx >/dev/null 2>&1 || { echo "not tried: $cxx is not installed"; continue; }
  compile medley.h $cxx -x c++ -std=c++11 -pedantic
  compile medley.h $cxx -x c++ -std=c++17 -pedantic
done
[ $found = 1 ] || skip "neither gcc nor clang is installed"
finish
