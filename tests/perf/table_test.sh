#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every collective on four processes: columns, counts, formulas, no wrong element.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"

# One run measures them all; each one's rows go to a file of their own.
expect 0 all --local 4 -b 64 -e 4K -f 8 -n 3 || finish
[ ! -s "$work/err" ] || { cat "$work/err"; echo "(said on stderr)"; }
awk -v dir="$work" '/test starting:/ { name = $NF } { print > (dir "/table." name) }' "$work/out"

# check NAME FACTOR COUNT-OF-4K ROOT IN-PLACE: the factor as an awk expression of n
check() {
  table=$work/table.$1
  [ -s "$table" ] || { fail "$1: no table"; return; }
  awk -v name="$1" -v factor="$2" -v count="$3" -v root="$4" -v in_place="$5" '
    function bad(why) { print name ": " why ": " $0; failed = 1 }
    # Two numbers that were rounded to the decimals shown.
    function near(a, b) { return a - b < 0.0101 + 0.01 * b && b - a < 0.0101 + 0.01 * a }
    $1 ~ /^[0-9]+$/ && $2 ~ /^[0-9]+$/ {
      rows++
      if (NF != 13) bad("columns")
      if ($3 != "float") bad("type")
      if ($5 != root) bad("root")
      if ($9 != 0 && !(name == "barrier" && $9 == "N/A")) bad("wrong data out of place")
      if (in_place ? $13 != 0 : $13 != "N/A") bad("wrong data in place")
      if ($6 <= 0 || (in_place && $10 <= 0)) bad("time")
      if ($2 == count) at_4k++
      if (name == "barrier") next
      if (!near($7, bytes($1) / $6 / 1000)) bad("algbw")
      if (!near($8, $7 * factor)) bad("busbw")
      if (in_place && !near($12, $11 * factor)) bad("busbw in place")
    }
    function bytes(size) { return name == "hypercube" ? size * 3 / 4 : size }
    /Out of bounds values : 0 OK/ { fine++ }
    /Avg bus bandwidth    : [0-9]/ { fine++ }
    /Collective test concluded:/ { fine++ }
    END {
      if (name == "barrier" ? rows != 1 : rows != 3) bad(rows " rows")
      if (!at_4k) bad("no row with count " count)
      if (fine != 3) bad("foot")
      exit failed
    }' "$table" || fail "$1"
}
check all_reduce 1.5 1024 -1 1
check all_gather 0.75 256 -1 1
check reduce_scatter 0.75 256 -1 1
check broadcast 1 1024 0 1
check reduce 1 1024 0 1
check alltoall 0.75 256 -1 1
check alltoallv 0.75 256 -1 0
check gather 0.75 256 0 1
check scatter 0.75 256 0 1
check sendrecv 1 1024 -1 0
check hypercube 1 256 -1 1
check barrier 1 0 -1 0
check all_gatherv 0.75 256 -1 1
check reduce_scatterv 0.75 256 -1 1

said out '^# medley-perf .*, 4 ranks in 4 processes started by --local' "head"
said out '^#  Rank  3 Group  0 Pid +[0-9]+ on +[^ ]+ device +3 \[host\] [a-z0-9_]+, by shm' "devices"
said out '^# +size +count +type +redop +root +time +algbw +busbw +#wrong +time +algbw +busbw +#wrong$' "columns"

# The rest of the table's columns, and what a size means.
expect 0 all_reduce --local 2 -b 1K -e 1K -n 4 -I 1 -S 1 -M 1 -C 1
said out '^# +size .* cputime +algbw +busbw +#wrong +i_min +i_max +i_p99 +i_cv% ' "-C 1, -I 1"
rows | awk 'NF != 23 || $10 > $12 || $12 > $11 || $22 !~ /^20[0-9][0-9]-/ { print; exit 1 }' || fail "-I 1 -S 1: columns"
said out '^# Memory usage +: Initialization .* User-Allocated 2.5 KiB .* Total' "-M 1"
expect 0 all_reduce --local 2 -b 1000 -e 3000 -i 1000 -d double -n 1 -N 2 -c 0
rows | awk '{ print $1, $2, $9, $13 }' >"$work/rows"
for cycle in 1 2; do
  printf '1000 125 N/A N/A\n2000 250 N/A N/A\n3000 375 N/A N/A\n'
done | diff - "$work/rows" || fail "-i, -N, -c 0"

# On a terminal, and only there, a line says how far it is; the table stays clean.
grep -q "$(printf '\033')" "$work/err" && fail "progress without a terminal"
if command -v python3 >/dev/null 2>&1; then
  python3 - "$perf_program" <<'END' || fail "the progress line"
import os, pty, subprocess, sys
master, slave = pty.openpty()
run = subprocess.Popen([sys.argv[1], "all_reduce", "-t", "2", "-b", "1K", "-e", "4K", "-f", "2", "-n", "2"],
                       stdout=subprocess.PIPE, stderr=slave, stdin=subprocess.DEVNULL)
os.close(slave)
table = run.stdout.read()
said = b""
try:
    while True:
        part = os.read(master, 4096)
        if not part:
            break
        said += part
except OSError:
    pass
assert run.wait() == 0, said
assert b"\x1b" not in table, table
for text in b"all_reduce 1 KiB: size 1 of 3, out of place", b"all_reduce 4 KiB: size 3 of 3, checking in place":
    assert b"\r\x1b[K" + text in said, said
assert said.endswith(b"\r\x1b[K"), said
END
else
  echo "not tried: the progress line, for want of python3"
fi
finish
