#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How hosts find a way to each other: families, choice of interfaces, ports, firewalls that let connections in from one
# side only, networks that lead nowhere.
. "${srcdir:-.}/tests/hosts/lib.sh"
job=$build/tests/hosts/job
export MDL_TEST_NETNS=a,a,b,b MEDLEY_INIT_TIMEOUT=20s

# try WHAT ARG...: the job does what its arguments say
try() {
  what=$1
  shift
  echo "== $what"
  "$job" -n 4 "$@" || fail "$what"
}

host a b c
network 0 rail0 46 a b c
network 10 rail10 4 a b c
network 1 rail1 46 a b c

# ---- families ----
for h in a b; do count $h; done
MEDLEY_SOCKET_FAMILY=AF_INET6 try "IPv6 by MEDLEY_SOCKET_FAMILY" -i rail0,rail1
[ "$(sent_with a v4)" = 0 ] && [ "$(sent_with b v4)" = 0 ] || fail "AF_INET6: IPv4 was used"
[ "$(sent_with a v6)" -gt 0 ] || fail "AF_INET6: no IPv6 was used"
MEDLEY_SOCKET_FAMILY=AF_INET try "IPv4 by MEDLEY_SOCKET_FAMILY" -i rail0,rail1,rail10
[ "$(sent_with b v4)" -gt 0 ] || fail "AF_INET: no IPv4 was used"
try "both families" -i rail0,rail1,rail10

# ---- MEDLEY_SOCKET_IFNAME ----
# only INTERFACES: what was sent since the last count went over them only
only() {
  for h in a b; do
    for rail in rail0 rail1 rail10; do
      packets=$(sent_over $h $rail)
      case ,$1, in
      *,$rail,*) [ "$packets" -gt 0 ] || fail "$MEDLEY_SOCKET_IFNAME: nothing over $rail of $h" ;;
      *) [ "$packets" = 0 ] || fail "$MEDLEY_SOCKET_IFNAME: $packets packets over $rail of $h" ;;
      esac
    done
  done
}
while read -r MEDLEY_SOCKET_IFNAME interfaces; do
  export MEDLEY_SOCKET_IFNAME
  for h in a b; do uncount $h; count $h; done
  try "MEDLEY_SOCKET_IFNAME=$MEDLEY_SOCKET_IFNAME" -i "$interfaces" </dev/null
  only "$interfaces"
done <<'RULES'
rail0 rail0
rail1 rail1,rail10
=rail1 rail1
^rail0 rail1,rail10
^=rail1 rail0,rail10
10.77.1.0/24 rail1
fd77::/64,10.77.10.0/24 rail0,rail10
RULES
for h in a b; do uncount $h; done
MEDLEY_SOCKET_IFNAME=eth7
try "an interface that does not exist" -e 'MEDLEY_SOCKET_IFNAME=eth7 MEDLEY_SOCKET_FAMILY= leave no address of: ' -d 2
try "the error lists what there is" -e 'rail10 10.77.10.1' -d 2
MEDLEY_SOCKET_IFNAME=10.77.1.0/33
try "a block that is none" -e 'is not an interface, =interface, ^interface or CIDR block' -d 2
unset MEDLEY_SOCKET_IFNAME

# ---- ports ----
# Connections come in at these ports only, whoever dials.
on b nft -f - <<'RULES'
table inet wall {
  counter outside {}
  chain in {
    type filter hook input priority 0; policy accept;
    iifname != "lo" tcp flags syn / syn,ack tcp dport != 41000-41007 counter name outside drop
  }
}
RULES
MEDLEY_PORT_RANGE=41000-41007 try "MEDLEY_PORT_RANGE"
on b nft list counter inet wall outside | grep -q 'packets 0' || fail "MEDLEY_PORT_RANGE: other ports were tried"
undrop b
# One port for two processes of a host: one gets it, the other says why not, the rest who is missing.
MEDLEY_PORT_RANGE=41000-41000 MEDLEY_INIT_TIMEOUT=2s try "one port for two processes" -d 3 \
  -e 'MEDLEY_PORT_RANGE=41000-41000|ranks are missing' >"$work/ports"
cat "$work/ports"
[ "$(grep -c 'cannot listen on .*MEDLEY_PORT_RANGE=41000-41000.*Address already in use' "$work/ports")" = 2 ] ||
  fail "not each process without a port says why"
MEDLEY_PORT_RANGE=41007-41000 try "a range that is none" -d 2 -e 'MEDLEY_PORT_RANGE=41007-41000: write first-last'

# ---- firewalls ----
# Rank 0, where all meet, is on c; a and b each let the other's connections in or not.
syn='tcp flags & (syn | ack) == syn'
# shut HOST K DROP-OR-REJECT: HOST lets no connection of the K-th host in
shut() {
  drop "$1" ip saddr "{ 10.77.0.$2, 10.77.1.$2, 10.77.10.$2 }" "$syn" counter "$3"
  drop "$1" ip6 saddr "{ fd77::$2, fd77:0:0:1::$2 }" "$syn" counter "$3"
}
export MDL_TEST_NETNS=c,a,b,b
for how in drop reject; do
  shut a 2 $how
  try "a lets no connection of b in ($how)" -d 12
  undrop a
  shut b 1 $how
  try "b lets no connection of a in ($how)" -d 12
  on b nft list table inet wall | grep -q 'packets [1-9]' || fail "a did not try to reach b"
  # A rank beyond the wall is late, and is asked why: it is waited for all the same.
  MEDLEY_DEAD_AFTER=1500ms try "a late rank behind that ($how)" -d 15 -l 3
  undrop b
done
# Rank 0 on a cannot connect to b at all.
export MDL_TEST_NETNS=a,a,b,b
drop b "$syn" drop
try "b lets no connection in" -d 12
undrop b

# ---- networks that lead nowhere ----
for h in a b; do
  k=1
  [ $h = a ] || k=2
  ip -n $h link add lone type bridge
  ip -n $h link add lone.1 type veth peer name lone.2
  ip -n $h link set lone.1 master lone up
  ip -n $h link set lone.2 up
  ip -n $h addr add 10.88.0.$k/24 dev lone
  ip -n $h addr add 172.17.0.1/16 dev lone # the same on every host, as Docker's
  ip -n $h link set lone up
  settle $h lone
done
try "networks that lead nowhere" -i rail0,rail1,rail10 -d 12
finish
