#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Threads and ranks per thread, streams, waits, groups, registration, misaligned buffers, types and roots, the matrix:
# whatever the mode, the data is right.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"

# right ROWS ARG...: that many rows, none of them wrong
right() {
  wanted_rows=$1
  shift
  expect 0 "$@" || return
  found=$(rows | awk '($9 == 0 || $9 == "N/A") && ($13 == 0 || $13 == "N/A")' | wc -l)
  [ "$found" = "$wanted_rows" ] || { rows; fail "medley-perf $*: $found rows are right, not $wanted_rows"; }
}

sizes="-b 1K -e 16K -f 16 -n 3"
# shellcheck disable=SC2086
{
  for layout in "-t 3" "-g 3" "-t 2 -g 2 -p 1" "--local 2 -t 2 -g 2" "-t 1" "--local 1"; do
    right 2 all_reduce $layout $sizes
    right 2 alltoallv $layout $sizes
  done
  right 27 all -t 2 -g 2 -b 1K -e 4K -f 4 -n 1
  said out '^# medley-perf .*, 4 ranks in 1 processes$' "-t 2 -g 2"
  right 2 hypercube -g 4 $sizes
  right 2 sendrecv -g 3 $sizes

  for mode in "-y 0" "-y 0 -z 1" "-y 0 -z 2" "-y 0 -z 3 -m 3" "-z 1" "-z 2" "-z 3" "-m 4" "-m 4 -y 0" "-w 0" "-w 3" "-C 1 -y 0" \
    "-a 0" "-a 2" "-a 3" "-c 3" "-R 1" "-R 2" "--mem alloc" "-u 1" "-u 3 -d int8" "-T 30"; do
    right 2 all_reduce --local 2 $sizes $mode
  done
  for mode in "-I 1 -K 2" "-I 1 -y 0 -z 3"; do
    expect 0 all_reduce --local 2 $sizes $mode
    [ "$(rows | awk '$9 == 0 && $17 == 0 && $10 <= $12 && $12 <= $11' | wc -l)" = 2 ] || { rows; fail "$mode"; }
  done
  right 2 all_gather -t 2 -g 2 $sizes -R 2 -y 0
  right 2 reduce_scatter --local 3 $sizes -u 1 -d double --mem alloc

  right 72 all_reduce --local 3 -b 256 -e 256 -n 1 -o all -d all
  right 12 alltoall --local 2 -b 256 -e 256 -n 1 -d all
  right 18 reduce --local 3 -b 256 -e 256 -n 1 -r all -o all -d bf16
  right 3 gather --local 3 -b 255 -e 255 -n 1 -r all -d uint8
  right 1 scatter --local 3 -b 1000 -e 1000 -n 1 -r 2
  # Shared memory where allowed, else TCP.
  (export MEDLEY_TRANSPORT=tcp; right 2 all_reduce --local 2 $sizes; said out 'device +[01] \[host\] .*, by tcp' tcp; finish) || fail "over TCP"
}

# A row and a column for each rank, nothing on the diagonal, numbers elsewhere.
expect 0 --matrix --local 3 -e 64K -n 3
said out '^# Latency in us: half of a round trip of 8 bytes' --matrix
said out '^# Bandwidth in GB/s: messages of 65536 bytes' --matrix
said out '^# Outliers +: [0-9]+$' --matrix
awk '$1 ~ /^[0-2]$/ { n++; for (i = 0; i < 3; i++) if (i == $1 ? $(i + 2) != "-" : !($(i + 2) > 0)) { print; bad = 1 } }
  END { exit bad || n != 6 }' "$work/out" || { show; fail "--matrix: the table"; }
expect 0 --matrix -t 4 -e 4K -n 2 -w 0
finish
