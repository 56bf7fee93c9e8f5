#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Two hosts with two networks, as network namespaces joined by two veth pairs, the second of which is slow.
. "${srcdir:-.}/tests/lib.sh"
need ip
need tc
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
a=medley-a$$ b=medley-b$$
ip netns add $a 2>/dev/null || skip "network namespaces cannot be made here"
trap 'ip netns del $a; ip netns del $b; rm -rf "$work"' EXIT
ip netns add $b

for rail in 0 1; do
  ip -n $a link add rail$rail type veth peer name rail$rail netns $b || skip "veth pairs cannot be made here"
  ip -n $a addr add 10.77.$rail.1/24 dev rail$rail
  ip -n $b addr add 10.77.$rail.2/24 dev rail$rail
  ip -n $a link set rail$rail up
  ip -n $b link set rail$rail up
done
# The kernel reports a carrier a little after the interface was set up.
settled() {
  for ns in $a $b; do
    ip -n $ns link set lo up
    [ "$(ip -n $ns -o link show up | grep -c 'rail.*state UP')" = 2 ] || return 1
  done
}
for _ in $(seq 200); do
  settled && break
  sleep 0.1
done
settled || fail "the interfaces do not come up"
ip netns exec $a tc qdisc add dev rail1 root tbf rate 10mbit burst 32kbit latency 400ms 2>/dev/null ||
  skip "this kernel has no token bucket (tc qdisc tbf)"

CONFORM_NETNS="$a $b" "$build/tests/conform/tcp_nets" "$@" || fail "tcp_nets"
finish
