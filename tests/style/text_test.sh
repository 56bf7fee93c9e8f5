#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every source says its licence; no line ends with blanks; every file ends with a newline.
. "${srcdir:-.}/tests/lib.sh"
files '*.[ch]' '*.sh' '*.py' '*.am' '*.ac' '*.def' '*.in' Makefile run setup registry relpath check-sanitized >"$work/sources"
while read -r file; do
  case $file in
  GNUmakefile.in | config.h.in | *.pc.in | m4/*) continue ;; # made, or read as it is by pkg-config
  *.am) [ "$file" = GNUmakefile.am ] || continue ;; # parts of it
  esac
  head -n 3 "$top/$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || fail "$file: no SPDX line at its head"
done <"$work/sources"

files '*.[ch]' '*.sh' '*.py' '*.am' '*.ac' '*.def' '*.md' '*.map' '*.list' '*.cmake.in' '*.pc.in' NEWS LICENSE Makefile |
  grep -vE '^(m4/|config.h)' >"$work/texts"
while read -r file; do
  grep -nE '[[:blank:]]+$' "$top/$file" | head -n 3 | grep . && fail "$file: blanks at the end of a line"
  [ -z "$(tail -c 1 "$top/$file")" ] || fail "$file: no newline at its end"
done <"$work/texts"
finish
