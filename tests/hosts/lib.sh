# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Hosts for tests: network namespaces, joined by bridges. Sourced: . "${srcdir:-.}/tests/hosts/lib.sh"
#
# The script starts itself again in namespaces of its own (mounts, network, processes): whatever it makes (hosts,
# bridges, files, processes) ends with it, a SIGKILL included, and no name can clash with another run. Root is needed
# for it, or a kernel that lets users make namespaces.
if [ -z "${MDL_HOSTS_INSIDE-}" ]; then
  for tool in unshare ip nft; do
    PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null 2>&1 || {
      echo "SKIP: $tool is not installed"
      exit 77
    }
  done
  user=
  [ "$(id -u)" = 0 ] || user=--map-root-user
  own="unshare $user --mount --net --pid --fork --kill-child --mount-proc"
  if ! said=$($own mount -t tmpfs tmpfs /run 2>&1); then
    echo "SKIP: namespaces need root here: $said"
    exit 77
  fi
  export MDL_HOSTS_INSIDE=1 PATH="$PATH:/usr/sbin:/sbin"
  exec $own "${SHELL_OF_TESTS:-/bin/sh}" "$0" "$@"
fi
trap 'exit 130' INT TERM HUP
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/tmp
TMPDIR=/run/tmp
. "${srcdir:-.}/tests/lib.sh"
ip link set lo up

# Neither the user's settings nor a launcher that runs the tests may be seen.
for name in $(env | sed -n 's/^\(\(MEDLEY\|OMPI\|PMIX\|PMI\|SLURM\)_[A-Za-z0-9_]*\)=.*/\1/p'); do
  unset "$name"
done
export MEDLEY_DEBUG=${MEDLEY_DEBUG_OF_TESTS:-NONE}

# host NAME...: makes them.
host() {
  for h; do
    ip netns add "$h" 2>"$work/why" || skip "network namespaces cannot be made here: $(cat "$work/why")"
    ip -n "$h" link set lo up
  done
}

# network NUMBER INTERFACE FAMILIES HOST...: joins the hosts by INTERFACE; host k of them gets 10.77.NUMBER.k/24
# (FAMILIES has 4) and fd77:0:0:NUMBER::k/64 (has 6).
network() {
  number=$1 interface=$2 families=$3 k=0
  shift 3
  ip link add "net$number" type bridge 2>"$work/why" || skip "bridges cannot be made here: $(cat "$work/why")"
  ip link set "net$number" up
  for h; do
    k=$((k + 1))
    ip link add "net$number.$k" type veth peer name "$interface" netns "$h" 2>"$work/why" ||
      skip "veth pairs cannot be made here: $(cat "$work/why")"
    ip link set "net$number.$k" master "net$number" up
    case $families in *4*) ip -n "$h" addr add "10.77.$number.$k/24" dev "$interface" ;; esac
    case $families in *6*) ip -n "$h" addr add "fd77:0:0:$number::$k/64" dev "$interface" nodad ;; esac
    ip -n "$h" link set "$interface" up
  done
  for h; do settle "$h" "$interface"; done
}

# The kernel reports a carrier a little after the interface was set up.
settle() {
  for _ in $(seq 100); do
    ip -n "$1" -o link show dev "$2" | grep -q 'state UP' && return
    sleep 0.05
  done
  fail "$2 of host $1 does not come up"
}

on() {
  h=$1
  shift
  ip netns exec "$h" "$@"
}

# count HOST: from now on, count packets of TCP by interface and by family.
count() {
  on "$1" nft -f - <<'RULES'
table inet count {
  set seen { type ifname; flags dynamic; counter; size 64; }
  counter v4 {}
  counter v6 {}
  chain out {
    type filter hook output priority 10; policy accept;
    oifname != "lo" meta l4proto tcp update @seen { oifname }
    oifname != "lo" meta nfproto ipv4 meta l4proto tcp counter name v4
    oifname != "lo" meta nfproto ipv6 meta l4proto tcp counter name v6
  }
}
RULES
}
uncount() { on "$1" nft delete table inet count; }

# Packets sent by HOST over an interface, or with v4 or v6.
sent_over() { on "$1" nft list set inet count seen | grep -o "\"$2\" counter packets [0-9]*" | grep -o '[0-9]*$' || echo 0; }
sent_with() { on "$1" nft list counter inet count "$2" | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }

# drop HOST RULE...: HOST drops what matches, on its way in.
drop() {
  h=$1
  shift
  on "$h" nft "add table inet wall
    add chain inet wall in { type filter hook input priority 0; policy accept; }
    add rule inet wall in $*" || fail "nft: $*"
}
undrop() { on "$1" nft delete table inet wall; }
