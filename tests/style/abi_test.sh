#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The library exports exactly the functions of medley.h, each in the version of abi.list. A name that was released never
# leaves the list: HACKING.md has the rule.
. "${srcdir:-.}/tests/lib.sh"
need nm
list=$top/tests/style/abi.list
library=$build/.libs/libmedley.so
[ -e "$library" ] || skip "the shared library was not built"

sort "$list" >"$work/list"
sed 's/ .*//' "$work/list" >"$work/names"
# A declaration may span lines: join them, then take the name before the first parenthesis.
sed 's|/\*.*\*/||' "$top/include/medley.h" | tr '\n' ' ' | grep -oE 'MEDLEY_API [^;(]*\(' |
  grep -oE 'medley[A-Za-z0-9]+\(' | tr -d '(' | sort >"$work/header"
nm -D --defined-only --with-symbol-versions "$library" 2>/dev/null | awk '$2 != "A" { print $3 }' |
  sed 's/@@*/ /' | sort >"$work/exports"

diff "$work/names" "$work/header" >"$work/diff" ||
  { cat "$work/diff"; fail "abi.list (<) and medley.h (>) name different functions"; }
diff "$work/list" "$work/exports" >"$work/diff" ||
  { cat "$work/diff"; fail "abi.list (<) and the exports of libmedley.so (>) differ"; }
finish
