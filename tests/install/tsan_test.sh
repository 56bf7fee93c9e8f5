#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests of the library, shortened, in a build with -fsanitize=thread: `make check-tsan`.
. "${srcdir:-.}/tests/lib.sh"
echo 'int main(void) { return 0; }' >"$work/try.c"
${CC:-cc} -fsanitize=thread "$work/try.c" -o "$work/try" 2>/dev/null && "$work/try" || skip "no -fsanitize=thread here"
cd "$build" || exit 99
MDL_CHECK_SHORT=1 make check-tsan >"$work/log" 2>&1 && { grep -E '^# (TOTAL|PASS|SKIP)' "$work/log"; exit 0; }
tail -n 100 "$work/log"
find build-tsan/obj -name '*.trs' -exec grep -lE ':test-result: *(FAIL|ERROR|XPASS)' {} + 2>/dev/null | while read -r trs; do
  echo "==== $trs"
  tail -n 60 "${trs%.trs}.log"
done
exit 1
