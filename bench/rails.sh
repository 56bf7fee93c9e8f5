#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# rails.sh [MBIT1 [MBIT2 [BYTES [ROUNDS]]]]: two hosts (network namespaces) of one rank each, joined by two networks of
# which one is slower than the other: 3000 and 1000 Mbit/s, and an all-reduce of 16 MiB, unless other numbers are given.
# Prints its time over each network alone and over both, and what share of the networks' payload rate that is (1448 of
# a frame's 1514 bytes). Root, iproute2 and nftables are needed, and `make bench/variants`.
here=$(dirname "$(realpath "$0")")
srcdir=$(dirname "$here")
. "$srcdir/tests/hosts/lib.sh"
first=${1:-3000} second=${2:-1000} bytes=${3:-16777216} rounds=${4:-9}
host node1 node2
network 0 rail0 4 node1 node2
network 1 rail1 4 node1 node2
for h in node1 node2; do
  for rail in "rail0 $first" "rail1 $second"; do
    set -- $rail
    burst=1mb # as bench/peers/hosts.sh has it, and why
    [ "$2" -gt 1000 ] || burst=256kb
    on "$h" tc qdisc add dev "$1" root tbf rate "$2mbit" burst $burst latency 20ms 2>"$work/why" ||
      skip "traffic cannot be shaped here: $(cat "$work/why")"
  done
done
"${VARIANTS:-$here/variants}" -s node1,node2 -b "$bytes:$bytes" -r "$rounds" "MEDLEY_SOCKET_IFNAME=rail0" \
  "MEDLEY_SOCKET_IFNAME=rail1" "" >"$work/out" || fail "variants"
awk -v a="$first" -v b="$second" -v bytes="$bytes" '
  function show(name, us, mbit) {
    line = mbit / 8 * 1448 / 1514
    printf "%-5s %5d Mbit/s %10.0f us  %.3f GB/s  %5.1f %% of the line\n", name, mbit, us, bytes / us / 1000,
      100 * bytes / us / line
  }
  NR > 1 && $1 == bytes { show("rail0", $2, a); show("rail1", $4, b); show("both", $6, a + b) }' "$work/out"
