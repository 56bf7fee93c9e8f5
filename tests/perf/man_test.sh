#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The man pages: without a complaint of mandoc, and complete: every flag, every variable, every function. And medley-info,
# whose flags are in one of them.
. "${srcdir:-.}/tests/lib.sh"
pages=$build/docs/man
info=$build/medley-info
[ -e "$pages/medley.3" ] || skip "the man pages were not made"

# names PAGE NAME...: the page has each of them, in bold
names() {
  page=$1
  shift
  sed 's/\\-/-/g; s/\\&//g' "$pages/$page" >"$work/page"
  for name; do
    grep -qE "(^\.BR? |fB).*$name([^A-Za-z0-9_]|\$)" "$work/page" || fail "$page does not name $name"
  done
}
quoted() { sed -n "s/^$1([^\"]*\"\([^\"]*\)\".*/\1/p" "$top/$2"; }

# shellcheck disable=SC2046
{
  names medley-perf.1 $(quoted PERF_FLAG bench/perf/options.def) $(quoted PERF_REFUSED bench/perf/options.def) all_reduce hypercube \
    MEDLEY_PERF_MIN_BW
  names medley-info.1 $(quoted INFO_FLAG bench/info/options.def) $(quoted MDL_CONFIG lib/base/config.def)
  names medley.3 $(cut -d' ' -f1 "$top/tests/style/abi.list")
}
[ "$(quoted MDL_CONFIG lib/base/config.def | wc -l)" -gt 30 ] || fail "the table of variables was not read"
grep -n '@' "$pages"/*.[13] | grep -E '@[A-Z_]+@' && fail "a template was not filled"
if command -v mandoc >/dev/null 2>&1; then
  mandoc -Tlint "$pages/medley-info.1" "$pages/medley-perf.1" "$pages/medley.3" || fail "mandoc -Tlint"
else
  echo "not tried: mandoc is not installed"
fi
for page in medley-info.1 medley-perf.1 medley.3; do
  command -v man >/dev/null 2>&1 || break
  man --warnings -l "$pages/$page" >"$work/text" 2>"$work/said" || { [ -s "$work/text" ] || echo "not tried: man -l"; continue; }
  [ -s "$work/text" ] && [ ! -s "$work/said" ] || { cat "$work/said"; fail "man -l $page"; }
done

# medley-info
"$info" >"$work/out" 2>&1 || fail "medley-info"
for word in "^medley [0-9]" "^processors " "^transports .*MEDLEY_TRANSPORT=" "^ *shm  *usable" "^algorithms  *direct " "^kernels "; do
  grep -qE "$word" "$work/out" || { cat "$work/out"; fail "medley-info does not say '$word'"; }
done
MEDLEY_COMM_KEY=very-secret-key-of-mine MEDLEY_TIMEOUT=3s "$info" --env >"$work/out" 2>&1 || fail "medley-info --env"
grep -q 'kind TIME, default 600s, here 3s' "$work/out" || fail "--env: the value here"
grep -q very-secret "$work/out" && fail "--env shows a secret"
MEDLEY_TIMEOUT=x "$info" >"$work/out" 2>&1 && fail "a bad variable is no error"
grep -q MEDLEY_TIMEOUT "$work/out" || fail "a bad variable is not named"
"$info" --help | awk 'length > 120 { print; exit 1 }' || fail "--help has long lines"

# Time grows with the size, on many hosts too.
for collective in all_reduce all_gather alltoall broadcast barrier; do
  timeout 60 "$info" --simulate $collective --hosts 100 --ranks 4 --mbps 100000 >"$work/out" 2>&1 || fail "--simulate $collective"
  awk '$1 ~ /^[0-9]/ { n++; if ($5 < last) { print; bad = 1 } last = $5 } END { exit bad || !n }' "$work/out" ||
    { cat "$work/out"; fail "--simulate $collective"; }
done
MEDLEY_ALGO=ring "$info" --simulate all_reduce | awk '$1 > 1000000 && $3 != "ring" { exit 1 }' || fail "--simulate with MEDLEY_ALGO"
"$info" --simulate all_reduce --mapped >/dev/null || fail "--mapped"
for bad in "--nonsense" "--hosts" "--hosts 0" "--hosts 1x" "--simulate" "--simulate sendrecv" "--simulate all_reduce --hosts 65536 --ranks 4096"; do
  # shellcheck disable=SC2086
  "$info" $bad >"$work/out" 2>"$work/said"
  [ $? = 2 ] && [ -s "$work/said" ] && [ ! -s "$work/out" ] || fail "medley-info $bad: no status 2 with a reason"
done
finish
