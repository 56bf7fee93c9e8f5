#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No file over 800 lines, no function over 80. Prints how the functions are distributed.
. "${srcdir:-.}/tests/lib.sh"
files '*.c' '*.h' '*.sh' '*.py' >"$work/files"
while read -r file; do
  lines=$(wc -l <"$top/$file")
  [ "$lines" -le 800 ] || fail "$file has $lines lines (at most 800)"
done <"$work/files"

if ctags --version 2>/dev/null | grep -q Universal; then
  (cd "$top" && grep '\.[ch]$' "$work/files" | ctags -x --c-kinds=f --_xformat='%{end} %n %N %F' -L -) |
    awk '{ print $1 - $2 + 1, $3, $4 }' | sort -n >"$work/functions"
  awk '$1 > 80 { print $3 ": " $2 " has " $1 " lines" }' "$work/functions" >"$work/long"
  while read -r line; do fail "$line (at most 80)"; done <"$work/long"
  awk '{ n[NR] = $1 } END { printf "%d functions: median %d lines, 90th percentile %d, longest %d\n",
    NR, n[int((NR + 1) / 2)], n[int(NR * 0.9 + 0.5)], n[NR] }' "$work/functions"
else
  echo "not checked: the length of functions, for want of universal-ctags"
fi
finish
